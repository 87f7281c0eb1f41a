// Pictures as SVG text, and the axes of charts.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace toroid::train {

// For text and attributes of SVG and HTML; control characters become visible.
std::string escape_markup(std::string_view text);

// Coordinates are pixels from the left and the top.
class Svg {
 public:
  Svg(double width, double height) : width_(width), height_(height) {}

  struct Font {
    double size = 12;
    const char* anchor = "start";  // or "middle", "end"
    const char* color = "#333";
    bool bold = false;
    double turned = 0;  // degrees
  };
  void text(double x, double y, std::string_view text, const Font& font);
  void line(double x1, double y1, double x2, double y2, const char* color, double width = 1);
  void path(const std::vector<std::pair<double, double>>& points, const char* color, double width,
            bool dashed = false);
  // `title` is shown where the pointer rests.
  void box(double x, double y, double width, double height, const char* color, std::string_view title = {},
           const char* outline = nullptr);
  void dot(double x, double y, double radius, const char* color, std::string_view title = {});

  // The whole picture; white, so that it can be read on any page.
  std::string whole() const;

 private:
  double width_, height_;
  std::string body_;
};

// Where values lie between two ends in pixels.
class Scale {
 public:
  // From 0 to `most`, or a little above.
  static Scale linear(double most, double from, double to);
  // From `least`, or a little below, to `most`, or a little above.
  static Scale linear_between(double least, double most, double from, double to);
  // From `least` to `most`, both above 0.
  static Scale logarithmic(double least, double most, double from, double to);

  double at(double value) const;
  const std::vector<double>& ticks() const { return ticks_; }

 private:
  bool log_ = false;
  double least_ = 0, most_ = 1, from_ = 0, to_ = 1;
  std::vector<double> ticks_;
};

// Colors of a chart's lines, told apart by most eyes.
inline constexpr std::array<const char*, 8> kLineColors = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                           "#e69f00", "#56b4e9", "#7f7f00", "#444444"};

// 2500 -> "2.5k", 0.25 -> "0.25", 3e9 -> "3G": labels of ticks.
std::string short_number(double value);

}  // namespace toroid::train
