// Token shards: Megatron's .bin/.idx, a list of documents and a manifest beside them. For a prefix P:
//   P.bin        the ids of all documents end to end: uint16 where the vocabulary is below 65500, else int32
//   P.idx        "MMIDIDX\0\0" | u64 version 1 | u8 type (4: int32, 8: uint16) | u64 n | u64 n + 1 |
//                i32 length[n] | i64 byte offset[n] | i64 document[n + 1] (0 .. n: one sequence a document)
//   P.documents  one line of JSON a document: {"name", "hash", "bytes"}
//   P.json       manifest: vocabulary, counts, tokenizer hash, xxHash and size of the three files,
//   provenance.
//                Written last, so a shard without it was never finished.
// Little-endian. A document is `bos text eos`, so P.bin is the packed stream that sequences are cut from.
//
// Reading goes through pread, not a memory map: a file that another program shortens while training runs is
// then a UserError that names it and not a SIGBUS, and the page cache serves both alike.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

enum class Split : uint8_t { train, validation };

// Where `toroid prepare` puts things: DIRECTORY/tokenizer.model,
// DIRECTORY/SOURCE/{train,validation}.{bin,idx,...}.
Path shard_prefix(const Path& directory, std::string_view source, Split split);
Path tokenizer_path(const Path& directory);

// The train/validation split: by the document's content hash alone, whatever the seed.
Split split_of(uint64_t content_hash, double validation_fraction);

struct ShardDocument {
  std::string name;   // path or id, as provenance
  uint64_t hash = 0;  // of the text
  int64_t text_bytes = 0;
};

struct ShardManifest {
  int32_t vocab = 0;
  int64_t documents = 0, tokens = 0, text_bytes = 0;
  uint64_t tokenizer_hash = 0;
  struct File {
    int64_t bytes = 0;
    uint64_t hash = 0;  // XXH3, 64 bits
  };
  File bin, idx, list;
  std::vector<std::pair<std::string, std::string>>
      provenance;  // free: source path, package version, date, ...
};

class ShardWriter {
 public:
  // Overwrites the shard at `prefix` when finish() is called and not before. SystemError where writing fails.
  ShardWriter(const Path& prefix, int32_t vocab, uint64_t tokenizer_hash);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // `ids` as Encoder::encode_document gives them.
  void add(std::span<const int32_t> ids, const ShardDocument& document);
  ShardManifest finish(std::vector<std::pair<std::string, std::string>> provenance = {});

 private:
  class State;
  std::unique_ptr<State> state_;
};

// How much of a shard is read before it is trusted. Structure, sizes and bounds are always checked.
enum class ShardCheck : uint8_t { sizes, hashes };

// Every method may be called from any thread.
class ShardReader {
 public:
  // UserError where a file is missing, truncated, or says what cannot be; also where the shard's vocabulary
  // is larger than `vocab`, or its tokenizer not `tokenizer_hash` (0: any).
  ShardReader(const Path& prefix, int32_t vocab, uint64_t tokenizer_hash = 0,
              ShardCheck verify = ShardCheck::hashes);
  ~ShardReader();
  ShardReader(ShardReader&&) noexcept;

  const ShardManifest& manifest() const;
  int64_t tokens() const;
  int64_t documents() const;
  // First token of document d, in tokens of the stream; document_start(documents()) == tokens().
  int64_t document_start(int64_t document) const;
  // The document that holds token `token`.
  int64_t document_of(int64_t token) const;
  // Ids [first, first + out.size()) of the stream; UserError where an id is not below the vocabulary.
  void read(int64_t first, std::span<int32_t> out) const;
  // Name, hash and size of a document, from P.documents.
  ShardDocument document(int64_t document) const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

// Reads and checks P.json alone; UserError where it is missing or not a manifest.
ShardManifest read_shard_manifest(const Path& prefix);

}  // namespace toroid
