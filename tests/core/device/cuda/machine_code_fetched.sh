#!/usr/bin/env bash
# machine_code.sh where cuobjdump is not installed: with the one that PyPI has.
#
#   machine_code_fetched.sh LIBRARY FOLDER     FOLDER keeps it
set -euo pipefail
library=${1:?usage: machine_code_fetched.sh LIBRARY FOLDER}
folder=${2:?usage: machine_code_fetched.sh LIBRARY FOLDER}
if ! find "$folder" -type f -name cuobjdump -perm -u+x 2> /dev/null | grep -q .; then
  python3 -m venv "$folder"
  "$folder/bin/pip" install -q --no-deps nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
  find "$folder" \( -name cuobjdump -o -name nvdisasm \) -exec chmod +x {} +
fi
exec "$(dirname "${BASH_SOURCE[0]}")/machine_code.sh" "$library" "$(find "$folder" -type f -name cuobjdump -perm -u+x | head -1)"
