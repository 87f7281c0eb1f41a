#include "simulate/draw/svg.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "core/base/text.h"

namespace toroid::train {
namespace {

std::string pixels(double value) {
  return fmt::format("{:.1f}", value);
}

std::string titled(std::string_view element, std::string_view title) {
  if (title.empty()) return "/>\n";
  return "><title>" + escape_markup(title) + "</title></" + std::string(element) + ">\n";
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  for (const char c : printable(text, 1000)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

void Svg::text(double x, double y, std::string_view text, const Font& font) {
  body_ += "<text x=\"" + pixels(x) + "\" y=\"" + pixels(y) + "\" font-size=\"" + pixels(font.size) +
           "\" text-anchor=\"" + font.anchor + "\" fill=\"" + font.color + "\"";
  if (font.bold) body_ += " font-weight=\"bold\"";
  if (font.turned != 0)
    body_ += " transform=\"rotate(" + pixels(font.turned) + " " + pixels(x) + " " + pixels(y) + ")\"";
  body_ += ">" + escape_markup(text) + "</text>\n";
}

void Svg::line(double x1, double y1, double x2, double y2, const char* color, double width) {
  body_ += "<line x1=\"" + pixels(x1) + "\" y1=\"" + pixels(y1) + "\" x2=\"" + pixels(x2) + "\" y2=\"" +
           pixels(y2) + "\" stroke=\"" + color + "\" stroke-width=\"" + pixels(width) + "\"/>\n";
}

void Svg::path(const std::vector<std::pair<double, double>>& points, const char* color, double width,
               bool dashed) {
  if (points.size() < 2) return;
  body_ += "<polyline fill=\"none\" stroke=\"" + std::string(color) + "\" stroke-width=\"" + pixels(width) +
           "\"" + (dashed ? " stroke-dasharray=\"5 4\"" : "") + " points=\"";
  for (const auto& [x, y] : points) body_ += pixels(x) + "," + pixels(y) + " ";
  body_ += "\"/>\n";
}

void Svg::box(double x, double y, double width, double height, const char* color, std::string_view title,
              const char* outline) {
  body_ += "<rect x=\"" + pixels(x) + "\" y=\"" + pixels(y) + "\" width=\"" + pixels(width) + "\" height=\"" +
           fmt::format("{:.2f}", height) + "\" fill=\"" + color + "\"";
  if (outline != nullptr) body_ += " stroke=\"" + std::string(outline) + "\"";
  body_ += titled("rect", title);
}

void Svg::dot(double x, double y, double radius, const char* color, std::string_view title) {
  body_ += "<circle cx=\"" + pixels(x) + "\" cy=\"" + pixels(y) + "\" r=\"" + pixels(radius) + "\" fill=\"" +
           color + "\"" + titled("circle", title);
}

std::string Svg::whole() const {
  const std::string width = fmt::format("{:.0f}", width_), height = fmt::format("{:.0f}", height_);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" + height +
         "\" viewBox=\"0 0 " + width + " " + height +
         "\" font-family=\"Helvetica, Arial, sans-serif\">\n<rect width=\"100%\" height=\"100%\" "
         "fill=\"white\"/>\n" +
         body_ + "</svg>\n";
}

Scale Scale::linear(double most, double from, double to) {
  if (!(most > 0) || !std::isfinite(most)) most = 1;
  return linear_between(0, most, from, to);
}

Scale Scale::linear_between(double least, double most, double from, double to) {
  Scale out;
  out.from_ = from;
  out.to_ = to;
  constexpr double kFar = 1e300;  // sums of a few of these are still numbers
  least = std::isfinite(least) ? std::clamp(least, -kFar, kFar) : 0;
  most = std::min(most, kFar);
  if (!(most > least)) most = least + std::max(1.0, std::abs(least));
  // A step of 1, 2 or 5 times a power of ten, of which four or five span the range.
  const double span = most - least;
  double step = std::pow(10, std::floor(std::log10(span / 4)));
  for (const double factor : {2.0, 2.5, 2.0}) {
    if (span / step > 5) step *= factor;
  }
  const double first = std::floor(least / step + 1e-9), last = std::ceil(most / step - 1e-9);
  out.least_ = first * step;
  out.most_ = last * step;
  // Counted apart, since beside a large number one more may be none.
  const auto ticks = static_cast<int>(std::min(last - first, 10.0));
  for (int i = 0; i <= ticks; ++i) out.ticks_.push_back((first + i) * step);
  return out;
}

Scale Scale::logarithmic(double least, double most, double from, double to) {
  Scale out;
  out.log_ = true;
  out.from_ = from;
  out.to_ = to;
  out.least_ = std::log10(least);
  out.most_ = std::max(std::log10(most), out.least_ + 0.1);
  const bool wide = out.most_ - out.least_ > 2.5;
  for (double decade = std::floor(out.least_); decade <= out.most_; ++decade) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = decade + std::log10(factor);
      if (tick < out.least_ - 1e-9 || tick > out.most_ + 1e-9 || (wide && factor != 1)) continue;
      out.ticks_.push_back(factor * std::pow(10, decade));
    }
  }
  return out;
}

double Scale::at(double value) const {
  const double place = log_ ? std::log10(value) : value;
  return from_ + (place - least_) / (most_ - least_) * (to_ - from_);
}

std::string short_number(double value) {
  const struct {
    double unit;
    const char* suffix;
  } units[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
  for (const auto& each : units) {
    if (std::abs(value) >= each.unit * (1 - 1e-9))
      return fmt::format("{:.4g}", value / each.unit) + each.suffix;
  }
  return fmt::format("{:.4g}", value);
}

}  // namespace toroid::train
