// The loss picture: an SVG drawn from two series. Pure: numbers in, text out.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace trident {

struct ChartPoint {
  double x = 0, y = 0;
  bool operator==(const ChartPoint&) const = default;
};

/// Loss over steps. x ascends; a y that is not finite (a step that was not applied) is a gap in the line.
struct LossChart {
  std::string title;
  std::vector<ChartPoint> training, validation;
};

/// At most `most` (even, >= 2) points with the same outline: of every stretch the lowest and the highest, in order. A
/// stretch without a finite y leaves one point that is not, so that gaps of its length stay gaps. All, if they are few.
std::vector<ChartPoint> downsample(std::span<const ChartPoint>, size_t most);

/// Exponential moving average over about `window` points, corrected for its start (the first value is the first point,
/// not a mixture with zero). Points that are not finite stay so and change nothing.
std::vector<ChartPoint> smooth(std::span<const ChartPoint>, double window);

/// Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high], about `count` of them. Needs low < high.
std::vector<double> axis_ticks(double low, double high, int count);

/// A well-formed SVG document, 800 x 450: the training loss as a thin line with its moving average (over a fiftieth of
/// the steps) above it, validation as points, axes with ticks, a legend with the last values. Lines have at most 2,000
/// points. Its style follows the reader's light or dark preference and is confined to class "loss-chart", so that the
/// picture can stand inside a page. Without a finite value it says so.
std::string draw_loss_chart(const LossChart&);

/// Text with & < > " ' made safe for XML and HTML; control characters that XML forbids become '?'.
std::string escape_xml(const std::string&);

}  // namespace trident
