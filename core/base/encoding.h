// Text in another encoding than UTF-8, and files of other formats, are known by their first bytes, so that a
// message can name them.
#pragma once

#include <string>
#include <string_view>

namespace toroid {

// What iconv calls the encoding of a text that begins so ("UTF-16", "UTF-32"; with "LE" or "BE" where no
// byte-order mark says which), "" where it is neither. Without a mark, text is what decodes to characters
// alone, many of them ASCII or the first two of them. At most the first 8 KiB are looked at.
std::string_view wide_encoding(std::string_view beginning);

// "is UTF-16 text, but ...; convert it with ...": what a sentence says of a file whose wide_encoding() is
// `encoding`.
std::string is_wide_text(std::string_view encoding);

// "gzip", "zstd", "xz", "bzip2", "zip" or "7z" by the first bytes of a file, "" where it is none of them.
std::string_view compressed_format(std::string_view beginning);

}  // namespace toroid
