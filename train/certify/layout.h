// Layouts as one types them. A list is separated by semicolons; each item is
//   [pods P of] [model M of] RxC [zero S]
//     P pods of R x C chips, M of them along the model axis, ZeRO stage S;
//   zero S,S,...
//     the item before it (2x2 where there is none) under each stage.
// Blanks separate words and otherwise mean nothing: "1x1; 4x1; pods 2 of 2x2; model 2 of 4x2; zero 0,1,2,3".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "configs/run.pb.h"

namespace toroid::train {

struct Layout {
  int pods = 1, model = 1, rows = 1, columns = 1;
  std::optional<int> stage;  // the config's where not given

  int ranks() const { return pods * rows * columns; }
  int replicas() const { return ranks() / model; }
  std::string text() const;
  // Replaces the axes of the config's mesh, and its ZeRO stage where one is given.
  void apply(config::RunConfig& run) const;
  bool operator==(const Layout&) const = default;
};

// UserError, naming the item, for anything else.
std::vector<Layout> parse_layouts(std::string_view list);

}  // namespace toroid::train
