#include "core/run/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/base/error.h"
#include "core/base/format.h"

namespace trident {
namespace {

constexpr double kWidth = 800, kHeight = 450;
constexpr double kLeft = 70, kRight = 780, kTop = 60, kBottom = 400;
constexpr size_t kMostPoints = 2000;

constexpr const char* kStyle = R"(<style>
.loss-chart{font-family:system-ui,sans-serif;font-size:13px}
.loss-chart .paper{fill:#fff}
.loss-chart text{fill:#333}
.loss-chart .title{font-size:17px;font-weight:600}
.loss-chart .grid{stroke:#ddd}
.loss-chart .axis{stroke:#666}
.loss-chart .training{fill:none;stroke:#6f9fd0;stroke-width:1}
.loss-chart .smoothed{fill:none;stroke:#1f5fa8;stroke-width:2}
.loss-chart .validation{fill:#d55e00;stroke:#fff}
@media(prefers-color-scheme:dark){
.loss-chart .paper{fill:#16181c}
.loss-chart text{fill:#d8dade}
.loss-chart .grid{stroke:#33373d}
.loss-chart .axis{stroke:#8b9097}
.loss-chart .training{stroke:#3f6c9c}
.loss-chart .smoothed{stroke:#7db4f0}
.loss-chart .validation{fill:#ff9a4d;stroke:#16181c}}
</style>
)";

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

/// From data to the paper.
struct Frame {
  Range x, y;
  double px(double v) const { return kLeft + (v - x.low) / (x.high - x.low) * (kRight - kLeft); }
  double py(double v) const { return kBottom - (v - y.low) / (y.high - y.low) * (kBottom - kTop); }
};

/// The frame that holds every finite point, with a little air above and below; nothing when there is none.
std::optional<Frame> frame_of(const LossChart& chart) {
  Frame frame;
  for (const auto* series : {&chart.training, &chart.validation}) {
    for (const ChartPoint& p : *series) {
      if (!std::isfinite(p.y)) continue;
      frame.x.add(p.x);
      frame.y.add(p.y);
    }
  }
  if (frame.x.low > frame.x.high) return std::nullopt;
  if (frame.x.low == frame.x.high) frame.x = {frame.x.low - 1, frame.x.high + 1};
  const double spread = frame.y.high - frame.y.low, size = std::abs(frame.y.high);
  // A flat line gets a scale of its own: there are no ticks between two neighbouring numbers.
  const double air = spread > 1e-6 * size ? spread * 0.05 : std::max(size * 0.05, 0.01);
  frame.y = {frame.y.low - air, frame.y.high + air};
  return frame;
}

std::string number(double v) { return format_fixed(v, 2); }

/// An element: tag, the class, attributes as given, and content that is XML already.
std::string text_at(double x, double y, const char* attributes, const std::string& content) {
  return build_string("<text x=\"", number(x), "\" y=\"", number(y), "\" ", attributes, ">", content, "</text>\n");
}

std::string line_at(const char* style, double x1, double y1, double x2, double y2) {
  return build_string("<line class=\"", style, "\" x1=\"", number(x1), "\" y1=\"", number(y1), "\" x2=\"", number(x2),
                      "\" y2=\"", number(y2), "\"/>\n");
}

std::string path_of(const char* style, const Frame& frame, std::span<const ChartPoint> points) {
  std::string d;
  bool down = false;  // the pen
  for (const ChartPoint& p : points) {
    const bool finite = std::isfinite(p.y);
    if (finite) d += build_string(down ? "L" : "M", number(frame.px(p.x)), " ", number(frame.py(p.y)));
    down = finite;
  }
  return build_string("<path class=\"", style, "\" d=\"", d, "\"/>\n");
}

/// A label with as many decimals as a tick distance needs.
std::string label(double value, double distance) {
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(distance) + 1e-9)));
  return format_fixed(value, std::min(decimals, 12));
}

std::string axes(const Frame& frame) {
  std::string svg;
  const std::vector<double> xs = axis_ticks(frame.x.low, frame.x.high, 8),
                            ys = axis_ticks(frame.y.low, frame.y.high, 6);
  for (const double y : ys) {
    svg += line_at("grid", kLeft, frame.py(y), kRight, frame.py(y));
    svg += text_at(kLeft - 8, frame.py(y) + 4, "class=\"y-tick\" text-anchor=\"end\"", label(y, ys[1] - ys[0]));
  }
  for (const double x : xs) {
    if (x != std::floor(x)) continue;  // there are no half steps
    svg += line_at("axis", frame.px(x), kBottom, frame.px(x), kBottom + 5);
    svg += text_at(frame.px(x), kBottom + 20, "class=\"x-tick\" text-anchor=\"middle\"", format_fixed(x, 0));
  }
  svg += line_at("axis", kLeft, kBottom, kRight, kBottom) + line_at("axis", kLeft, kTop, kLeft, kBottom);
  svg += text_at((kLeft + kRight) / 2, kBottom + 40, "text-anchor=\"middle\"", "step");
  svg += build_string("<text transform=\"translate(18 ", number((kTop + kBottom) / 2),
                      ") rotate(-90)\" text-anchor=\"middle\">loss (nats per token)</text>\n");
  return svg;
}

/// ", last 2.3456" of the last finite value.
std::string last_of(std::span<const ChartPoint> points) {
  for (size_t i = points.size(); i-- > 0;) {
    if (std::isfinite(points[i].y)) return ", last " + format_fixed(points[i].y, 4);
  }
  return "";
}

std::string curves(const LossChart& chart, const Frame& frame) {
  const double window = std::max(1.0, static_cast<double>(chart.training.size()) / 50);
  const std::vector<ChartPoint> smoothed = smooth(chart.training, window);
  std::string svg = path_of("training", frame, downsample(chart.training, kMostPoints));
  svg += path_of("smoothed", frame, downsample(smoothed, kMostPoints));
  for (const ChartPoint& p : downsample(chart.validation, kMostPoints)) {
    if (!std::isfinite(p.y)) continue;
    svg += build_string("<circle class=\"validation\" cx=\"", number(frame.px(p.x)), "\" cy=\"", number(frame.py(p.y)),
                        "\" r=\"4\"/>\n");
  }
  // The legend stands in the corner that a falling loss leaves empty.
  const double x = 480;
  svg += line_at("training", x, 74.5, x + 26, 74.5) +
         text_at(x + 34, 78, "class=\"legend\"", "training" + last_of(chart.training));
  svg += line_at("smoothed", x, 94, x + 26, 94) +
         text_at(x + 34, 98, "class=\"legend\"", "training, moving average" + last_of(smoothed));
  if (chart.validation.empty()) return svg;
  return svg + build_string("<circle class=\"validation\" cx=\"", x + 13, "\" cy=\"114\" r=\"4\"/>\n") +
         text_at(x + 34, 118, "class=\"legend\"", "validation" + last_of(chart.validation));
}

}  // namespace

std::vector<ChartPoint> downsample(std::span<const ChartPoint> points, size_t most) {
  ensure(most >= 2 && most % 2 == 0, "a stretch of points is kept by two of them");
  if (points.size() <= most) return {points.begin(), points.end()};
  std::vector<ChartPoint> kept;
  const size_t stretches = most / 2;
  for (size_t s = 0; s < stretches; ++s) {
    const size_t begin = s * points.size() / stretches, end = (s + 1) * points.size() / stretches;
    size_t low = end, high = end;
    for (size_t i = begin; i < end; ++i) {
      if (!std::isfinite(points[i].y)) continue;
      if (low == end || points[i].y < points[low].y) low = i;
      if (high == end || points[i].y > points[high].y) high = i;
    }
    if (low == end) {
      kept.push_back(points[begin]);
      continue;
    }
    kept.push_back(points[std::min(low, high)]);
    if (low != high) kept.push_back(points[std::max(low, high)]);
  }
  return kept;
}

std::vector<ChartPoint> smooth(std::span<const ChartPoint> points, double window) {
  const double keep = 1 - 2 / (std::max(window, 1.0) + 1);
  std::vector<ChartPoint> smoothed(points.begin(), points.end());
  double sum = 0, weight = 0;
  for (ChartPoint& p : smoothed) {
    if (!std::isfinite(p.y)) continue;
    sum = keep * sum + p.y;
    weight = keep * weight + 1;
    p.y = sum / weight;
  }
  return smoothed;
}

std::vector<double> axis_ticks(double low, double high, int count) {
  ensure(low < high && count >= 1, "an axis has a length");
  const double rough = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double step = rough <= power       ? power
                      : rough <= 2 * power ? 2 * power
                      : rough <= 5 * power ? 5 * power
                                           : 10 * power;
  std::vector<double> ticks;
  for (double k = std::ceil(low / step); k * step <= high; ++k) ticks.push_back(k * step);
  return ticks;
}

std::string draw_loss_chart(const LossChart& chart) {
  std::string svg =
      build_string("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"loss-chart\" viewBox=\"0 0 ", kWidth, " ",
                   kHeight, "\" width=\"", kWidth, "\" height=\"", kHeight, "\" role=\"img\">\n");
  svg += "<title>" + escape_xml(chart.title) + "</title>\n" + kStyle;
  svg += build_string("<rect class=\"paper\" width=\"", kWidth, "\" height=\"", kHeight, "\"/>\n");
  svg += text_at(kLeft, 36, "class=\"title\"", escape_xml(chart.title));
  if (const std::optional<Frame> frame = frame_of(chart)) {
    svg += axes(*frame) + curves(chart, *frame);
  } else {
    svg += text_at(kWidth / 2, kHeight / 2, "text-anchor=\"middle\"", "no finite loss yet");
  }
  return svg + "</svg>\n";
}

std::string escape_xml(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '"': safe += "&quot;"; break;
      case '\'': safe += "&#39;"; break;
      default: safe += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? '?' : c;
    }
  }
  return safe;
}

}  // namespace trident
