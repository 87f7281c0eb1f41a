// toroid mesh: draws the pods, the axes and one rank's groups, in the terminal and as an SVG picture.
#include "parallel/mesh/mesh.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "core/base/round_up.h"
#include "core/base/text.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/verb.h"
#include "simulate/draw/svg.h"

namespace toroid::launch {
namespace {

struct MeshFlags {
  ConfigFlags config;
  int64_t rank = 0;
  std::string svg;
};

constexpr int kMostDrawn = 16;  // chips along a side, and pods

// What a rank is to the one that was asked about.
enum class Role : uint8_t { other, self, data, model, pod };

struct Picture {
  const mesh::Mesh& mesh;
  int rank;
  mesh::RankGroups groups;
  std::vector<Role> roles;  // by rank
  int planes, rows, columns;

  Picture(const mesh::Mesh& shown, int of_rank)
      : mesh(shown),
        rank(of_rank),
        groups(shown.groups(of_rank)),
        roles(static_cast<size_t>(shown.world_size()), Role::other) {
    const auto mark = [&](const mesh::Group& group, Role role) {
      for (const int member : group.ranks) roles[static_cast<size_t>(member)] = role;
    };
    mark(groups.pod, Role::pod);
    mark(groups.data, Role::data);
    mark(groups.model, Role::model);
    roles[static_cast<size_t>(rank)] = Role::self;
    const auto size_from_last = [&](size_t i) {
      return i < shown.torus().size() ? shown.torus()[shown.torus().size() - 1 - i].size : 1;
    };
    columns = size_from_last(0);
    rows = size_from_last(1);
    planes = size_from_last(2);
  }

  Role role(int of_rank) const { return roles[static_cast<size_t>(of_rank)]; }
  bool fits() const { return planes * rows <= 4 * kMostDrawn && rows <= kMostDrawn && columns <= kMostDrawn; }
  // The pods that are drawn: all, or the rank's alone where they are many.
  std::vector<int> pods(int most) const {
    if (mesh.pods() > most) return {mesh.coordinate(rank).pod};
    std::vector<int> all;
    for (int pod = 0; pod < mesh.pods(); ++pod) all.push_back(pod);
    return all;
  }
  int rank_at(int pod, int plane, int row, int column) const {
    return pod * mesh.pod_size() + (plane * rows + row) * columns + column;
  }
};

std::string padded(const std::string& text, size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

// "0 16 32 48", or "0 16 32 ... 240" where they are many.
std::string ranks_text(const std::vector<int>& ranks) {
  constexpr size_t kMost = 16;
  std::string text;
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (ranks.size() > kMost && i == 8) {
      text += " ...";
      i = ranks.size() - 1;
    }
    text += (text.empty() ? "" : " ") + std::to_string(ranks[i]);
  }
  return text;
}

void print_axes(const mesh::Mesh& mesh) {
  std::cout << mesh.text() << ": " << with_commas(mesh.world_size())
            << (mesh.world_size() == 1 ? " rank\n" : " ranks\n");
  for (size_t i = 0; i < mesh.torus().size(); ++i) {
    const mesh::Mesh::Dimension& dimension = mesh.torus()[i];
    std::cout << "  torus dimension " << i << ": " << dimension.size << " = data " << dimension.data_parts
              << " x model " << dimension.model_parts << "\n";
  }
}

void print_drawing(const Picture& picture) {
  if (!picture.fits()) {
    std::cout << "\n(a pod with more than " << kMostDrawn << " chips along a side is not drawn)\n";
    return;
  }
  constexpr int kPods = 4;
  const size_t width = std::to_string(picture.mesh.world_size() - 1).size() + 1;
  const auto sign = [](Role role) {
    return role == Role::self    ? '*'
           : role == Role::data  ? 'd'
           : role == Role::model ? 'm'
           : role == Role::pod   ? 'p'
                                 : ' ';
  };
  for (const int pod : picture.pods(kPods)) {
    for (int plane = 0; plane < picture.planes; ++plane) {
      std::cout << "\npod " << pod;
      if (picture.planes > 1) std::cout << ", plane " << plane;
      std::cout << "\n";
      for (int row = 0; row < picture.rows; ++row) {
        std::string line;
        for (int column = 0; column < picture.columns; ++column) {
          const int rank = picture.rank_at(pod, plane, row, column);
          line += padded(std::to_string(rank), width) + sign(picture.role(rank));
        }
        std::cout << line << "\n";
      }
    }
  }
  if (picture.mesh.pods() > kPods)
    std::cout << "\n(" << picture.mesh.pods() - 1 << " more pods like this one)\n";
  std::cout << "\n* this rank   d data group   m model group   p twins in other pods\n";
}

void print_groups(const Picture& picture) {
  std::cout << "\n" << picture.mesh.text(picture.rank) << "\n";
  for (const mesh::Group* group : {&picture.groups.data, &picture.groups.model, &picture.groups.pod}) {
    std::string axis(name(group->axis));
    axis.resize(6, ' ');
    std::cout << "  " << axis << with_commas(static_cast<int64_t>(group->ranks.size()))
              << (group->ranks.size() == 1 ? " rank" : " ranks");
    if (group->ranks.size() > 1)
      std::cout << " as " << schedule::text(group->shape) << ": " << ranks_text(group->ranks);
    std::cout << "\n";
  }
}

const char* color_of(Role role) {
  switch (role) {
    case Role::self:
      return "#d62728";
    case Role::data:
      return "#9ecae1";
    case Role::model:
      return "#fdd0a2";
    case Role::pod:
      return "#c7e9c0";
    case Role::other:
      break;
  }
  return "#f0f0f0";
}

std::string svg(const Picture& picture) {
  constexpr int kCell = 40, kGap = 6, kMargin = 30, kHead = 60;
  constexpr const char* kOutline = "#888";
  const std::vector<int> pods = picture.pods(kMostDrawn);
  const int across = std::min(4, static_cast<int>(pods.size()));
  const int down = static_cast<int>(divide_up(static_cast<int64_t>(pods.size()), across));
  const int pod_width = picture.columns * (kCell + kGap) + kMargin;
  const int pod_height = picture.planes * (picture.rows * (kCell + kGap) + kMargin) + kMargin;
  const int width = std::max(640, across * pod_width + 2 * kMargin);
  const int height = kHead + down * pod_height + 2 * kMargin;
  train::Svg out(width, height);
  out.text(kMargin, 24, picture.mesh.text(), {16, "start", "#111"});
  out.text(kMargin, 44, "groups of " + picture.mesh.text(picture.rank), {});
  for (size_t i = 0; i < pods.size(); ++i) {
    const int left = kMargin + static_cast<int>(i) % across * pod_width;
    int top = kHead + kMargin + static_cast<int>(i) / across * pod_height;
    out.text(left, top - 8, "pod " + std::to_string(pods[i]), {});
    for (int plane = 0; plane < picture.planes; ++plane, top += picture.rows * (kCell + kGap) + kMargin) {
      for (int row = 0; row < picture.rows; ++row) {
        for (int column = 0; column < picture.columns; ++column) {
          const int rank = picture.rank_at(pods[i], plane, row, column);
          const int x = left + column * (kCell + kGap);
          const int y = top + row * (kCell + kGap);
          out.box(x, y, kCell, kCell, color_of(picture.role(rank)), picture.mesh.text(rank), kOutline);
          out.text(x + kCell / 2.0, y + kCell / 2.0 + 4, std::to_string(rank), {11, "middle", "#222"});
        }
      }
    }
  }
  int x = kMargin;
  const struct {
    Role role;
    const char* text;
  } legend[] = {{Role::self, "this rank"},
                {Role::data, "data group"},
                {Role::model, "model group"},
                {Role::pod, "twins in other pods"}};
  for (const auto& entry : legend) {
    out.box(x, height - 30, 14, 14, color_of(entry.role), {}, kOutline);
    out.text(x + 20, height - 18, entry.text, {});
    x += 130;
  }
  return out.whole();
}

ExitCode run(const MeshFlags& flags) {
  const mesh::Mesh mesh(load_config(flags.config).run.mesh());
  if (flags.rank < 0 || flags.rank >= mesh.world_size()) {
    throw UserError("--rank is " + std::to_string(flags.rank) + ", but the mesh has ranks 0 to " +
                    std::to_string(mesh.world_size() - 1));
  }
  const Picture picture(mesh, static_cast<int>(flags.rank));
  print_axes(mesh);
  print_drawing(picture);
  print_groups(picture);
  if (flags.svg.empty()) return ExitCode::done;
  if (!picture.fits()) {
    throw UserError("--svg draws pods of at most " + std::to_string(kMostDrawn) +
                    " chips along a side; this mesh has more");
  }
  write_file(flags.svg, svg(picture));
  std::cout << "\nwritten to " << printable(flags.svg) << "\n";
  return ExitCode::done;
}

}  // namespace

void add_mesh(Verbs& verbs) {
  const auto flags = std::make_shared<MeshFlags>();
  CLI::App& app = verbs.add("mesh", "Draw the pods, the axes and the groups of one rank", "Training",
                            [flags] { return run(*flags); });
  add_config_flags(app, flags->config);
  app.add_option("--rank", flags->rank, "Whose groups to show")->type_name("N")->capture_default_str();
  app.add_option("--svg", flags->svg, "Write the picture to this file as well")->type_name("FILE");
}

}  // namespace toroid::launch
