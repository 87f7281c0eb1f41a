# Sourced by tests that want two hosts: two network namespaces joined by a veth pair, host0 and host1, each with its own
# host name, /dev/shm and sshd, to which the other comes without a password. Call it in namespaces of one's own
# (tiny_run.sh).

# two_hosts DIRECTORY: their files lie there, /dev/shm among them as shm0 and shm1.
two_hosts() {
  local work=$1
  mkdir -p /run/netns /run/sshd ~/.ssh "$work/shm0" "$work/shm1"
  mount -t tmpfs none /run/netns
  mount -t tmpfs -o mode=700 none ~/.ssh  # hides the user's keys; ours go with the namespace
  ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
  cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys
  printf 'StrictHostKeyChecking no\nLogLevel ERROR\n' >~/.ssh/config
  ssh-keygen -q -t ed25519 -N '' -f "$work/host_key"
  cat >"$work/sshd_config" <<CONF
HostKey $work/host_key
AuthorizedKeysFile $HOME/.ssh/authorized_keys
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
CONF
  printf '127.0.0.1 localhost\n10.77.0.1 host0\n10.77.0.2 host1\n' >"$work/hosts"
  mount --bind "$work/hosts" /etc/hosts

  ip netns add host0 || skip "no network namespaces"
  ip netns add host1
  ip link add veth0 netns host0 type veth peer name veth1 netns host1 || skip "no veth pairs"
  local i
  for i in 0 1; do
    ip -n host$i link set lo up
    ip -n host$i addr add 10.77.0.$((i + 1))/24 dev veth$i
    ip -n host$i link set veth$i up
  done
  hosts_directory=$work
  for i in 1 0; do on_host $i "$(command -v sshd)" -f "$work/sshd_config" -E "$work/sshd$i.log"; done
}

on_host() {  # on_host 0|1 COMMAND...
  local i=$1
  shift
  ip netns exec "host$i" unshare --mount --uts bash -c \
    'hostname "$0"; mount --bind "$1" /dev/shm; shift; exec "$@"' "host$i" "$hosts_directory/shm$i" "$@"
}
