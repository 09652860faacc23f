#include "core/run/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "core/base/error.h"
#include "run/xml_reader.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::testing;

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();

LossChart falling(int steps) {
  LossChart chart{.title = "a run: loss", .training = {}, .validation = {}};
  for (int step = 1; step <= steps; ++step) chart.training.push_back({double(step), 2 + 8.0 / step + 0.1 * (step % 3)});
  for (int step = steps / 4; step <= steps; step += steps / 4)
    chart.validation.push_back({double(step), 2.2 + 8.0 / step});
  return chart;
}

/// "M1 2L3 4": the points, and where the pen was lifted.
struct Path {
  std::vector<ChartPoint> points;
  int strokes = 0;
};

Path path_of(const XmlDocument& svg, const std::string& style) {
  Path path;
  for (const XmlElement& e : svg.elements) {
    if (e.name != "path" || e.attribute("class") != style) continue;
    std::istringstream d(e.attribute("d"));
    ChartPoint point;
    for (char pen = 0; d >> pen >> point.x >> point.y;) {
      if (pen == 'M') ++path.strokes;
      path.points.push_back(point);
    }
    REQUIRE(d.eof());
  }
  return path;
}

/// From the paper back to data, learnt from the ticks and their labels only, as a reader would.
struct Scale {
  double at0 = 0, at1 = 0, value0 = 0, value1 = 0;
  int ticks = 0;
  double value(double at) const { return value0 + (at - at0) / (at1 - at0) * (value1 - value0); }
  double unit() const { return std::abs((value1 - value0) / (at1 - at0)); }  ///< data per pixel
};

Scale scale_of(const XmlDocument& svg, const std::string& tick, const std::string& coordinate, double shift) {
  Scale scale;
  for (const XmlElement& e : svg.elements) {
    if (e.attribute("class") != tick) continue;
    const double at = std::stod(e.attribute(coordinate)) + shift, value = std::stod(e.text);
    if (scale.ticks++ == 0) {
      scale.at0 = at;
      scale.value0 = value;
    }
    scale.at1 = at;
    scale.value1 = value;
  }
  return scale;
}

Scale x_scale(const XmlDocument& svg) { return scale_of(svg, "x-tick", "x", 0); }
Scale y_scale(const XmlDocument& svg) { return scale_of(svg, "y-tick", "y", -4); }  // labels stand 4 below their tick

int count_of(const XmlDocument& svg, const std::string& name, const std::string& style) {
  int count = 0;
  for (const XmlElement& e : svg.elements) count += e.name == name && e.attribute("class") == style ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("points lie where the axes say", "[run]") {
  const LossChart chart = falling(200);
  const XmlDocument svg = read_xml(draw_loss_chart(chart));
  REQUIRE(svg.problem == "");
  const Scale x = x_scale(svg), y = y_scale(svg);
  REQUIRE(x.ticks >= 4);
  REQUIRE(y.ticks >= 3);
  const Path line = path_of(svg, "training");
  REQUIRE(line.points.size() == chart.training.size());
  REQUIRE(line.strokes == 1);
  // Coordinates have two decimals: a point is off by at most half of that, and so is each of the ticks it is read by,
  // whose lever is at most the whole axis over the distance of the outer ticks (below 2 here).
  double worst_x = 0, worst_y = 0;
  for (size_t i = 0; i < line.points.size(); ++i) {
    worst_x = std::max(worst_x, std::abs(x.value(line.points[i].x) - chart.training[i].x) / x.unit());
    worst_y = std::max(worst_y, std::abs(y.value(line.points[i].y) - chart.training[i].y) / y.unit());
  }
  INFO("pixels off: " << worst_x << ", " << worst_y);
  CHECK(worst_x <= 0.005 * 4);
  CHECK(worst_y <= 0.005 * 4);

  std::vector<ChartPoint> circles;
  for (const XmlElement& e : svg.elements) {
    if (e.name == "circle")
      circles.push_back({x.value(std::stod(e.attribute("cx"))), y.value(std::stod(e.attribute("cy")))});
  }
  REQUIRE(circles.size() == chart.validation.size() + 1);  // and the legend's
  for (size_t i = 0; i < chart.validation.size(); ++i) {
    CHECK(std::abs(circles[i].x - chart.validation[i].x) <= 0.02 * x.unit());
    CHECK(std::abs(circles[i].y - chart.validation[i].y) <= 0.02 * y.unit());
  }
}

TEST_CASE("a long run is drawn with at most 2,000 points a line, inside the paper", "[run]") {
  const XmlDocument svg = read_xml(draw_loss_chart(falling(123457)));
  REQUIRE(svg.problem == "");
  for (const char* style : {"training", "smoothed"}) {
    const Path path = path_of(svg, style);
    INFO(style);
    CHECK(path.points.size() <= 2000);
    CHECK(path.points.size() > 1000);
    CHECK(path.strokes == 1);
    for (const ChartPoint& p : path.points) {
      REQUIRE((p.x >= 70 && p.x <= 780));
      REQUIRE((p.y >= 60 && p.y <= 400));
    }
  }
}

TEST_CASE("a step that was not applied leaves a gap", "[run]") {
  LossChart chart = falling(40);
  chart.training[10].y = kNan;
  chart.training[11].y = std::numeric_limits<double>::infinity();
  chart.validation[0].y = kNan;
  const XmlDocument svg = read_xml(draw_loss_chart(chart));
  const Path line = path_of(svg, "training");
  CHECK(line.strokes == 2);
  CHECK(line.points.size() == 38);
  CHECK(count_of(svg, "circle", "validation") == 3 + 1);
}

TEST_CASE("charts of little or nothing", "[run]") {
  const std::string empty = draw_loss_chart({.title = "x", .training = {}, .validation = {}});
  CHECK(read_xml(empty).problem == "");
  CHECK(empty.find("no finite loss yet") != std::string::npos);
  CHECK(draw_loss_chart({.title = "x", .training = {{1, kNan}}, .validation = {}}).find("no finite") !=
        std::string::npos);
  // One point, a flat line, neighbours one ulp apart, huge and tiny values: ticks exist and points are inside.
  for (const auto& points : std::vector<std::vector<ChartPoint>>{{{5, 2.5}},
                                                                 {{1, 3}, {2, 3}, {3, 3}},
                                                                 {{1, 2}, {2, std::nextafter(2.0, 3.0)}},
                                                                 {{1, 0}, {2, 0}},
                                                                 {{1, 1e300}, {2, 1}},
                                                                 {{1, 1e-9}, {1000000000, 3e-9}}}) {
    INFO(points[0].x << " " << points[0].y << " of " << points.size());
    const XmlDocument svg = read_xml(draw_loss_chart({.title = "x", .training = points, .validation = {}}));
    REQUIRE(svg.problem == "");
    CHECK(y_scale(svg).ticks >= 2);
    CHECK(x_scale(svg).ticks >= 1);
    const Path line = path_of(svg, "training");
    REQUIRE(line.points.size() == points.size());
    for (const ChartPoint& p : line.points) REQUIRE((p.x >= 70 && p.x <= 780 && p.y >= 60 && p.y <= 400));
  }
}

TEST_CASE("downsampling keeps the outline", "[run]") {
  std::vector<ChartPoint> points;
  for (int i = 0; i < 10000; ++i) points.push_back({double(i), std::sin(i * 0.01)});
  points[4321].y = 9;
  points[8765].y = -9;
  for (int i = 5000; i < 5400; ++i) points[i].y = kNan;
  const std::vector<ChartPoint> few = downsample(points, 100);
  REQUIRE(few.size() <= 100);
  CHECK(std::count(few.begin(), few.end(), ChartPoint{4321, 9}) == 1);
  CHECK(std::count(few.begin(), few.end(), ChartPoint{8765, -9}) == 1);
  CHECK(std::count_if(few.begin(), few.end(), [](const ChartPoint& p) { return std::isnan(p.y); }) == 2);
  for (size_t i = 1; i < few.size(); ++i) REQUIRE(few[i - 1].x < few[i].x);
  CHECK(downsample(std::span(points).first(100), 100).size() == 100);
  REQUIRE_THROWS_AS(downsample(points, 3), InternalError);
}

TEST_CASE("the moving average starts at the first point and follows", "[run]") {
  const std::vector<ChartPoint> points = {{1, 8}, {2, 4}, {3, kNan}, {4, 4}};
  const std::vector<ChartPoint> smoothed = smooth(points, 3);  // keeps half: weights 1, 1/2, 1/4
  CHECK(smoothed[0].y == 8);
  CHECK(smoothed[1].y == (8 * 0.5 + 4) / 1.5);
  CHECK(std::isnan(smoothed[2].y));
  CHECK(smoothed[3].y == ((8 * 0.5 + 4) * 0.5 + 4) / 1.75);
  CHECK(smooth(points, 1)[1].y == 4);  // a window of one changes nothing
  CHECK(smooth(points, 0)[1].y == 4);
}

TEST_CASE("ticks are round and inside", "[run]") {
  CHECK(axis_ticks(0, 10, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(axis_ticks(1, 300, 6) == std::vector<double>{50, 100, 150, 200, 250, 300});
  CHECK(axis_ticks(-3, 4, 4) == std::vector<double>{-2, 0, 2, 4});
  CHECK(axis_ticks(2.31, 2.49, 4) == std::vector<double>{47 * 0.05, 48 * 0.05, 49 * 0.05});
  for (double high = 1e-6; high < 1e9; high *= 1.3) {
    const auto ticks = axis_ticks(0.1 * high, high, 6);
    INFO(high);
    REQUIRE(ticks.size() >= 2);
    REQUIRE(ticks.size() <= 13);
    REQUIRE(ticks.front() >= 0.1 * high);
    REQUIRE(ticks.back() <= high);
  }
  REQUIRE_THROWS_AS(axis_ticks(1, 1, 5), InternalError);
}

TEST_CASE("text is made safe", "[run]") {
  CHECK(escape_xml("a<b> & \"c\" 'd'\n\x01") == "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\n?");
  const XmlDocument svg =
      read_xml(draw_loss_chart({.title = "</title><b>&\"", .training = {{1, 2}}, .validation = {}}));
  REQUIRE(svg.problem == "");
  CHECK(count_of(svg, "b", "") == 0);
}

TEST_CASE("the XML reader of these tests finds what is not well-formed", "[run]") {
  CHECK(read_xml("<a><b/>x</a>").problem == "");
  for (const char* bad : {"<a><b></a></b>", "<a>", "</a>", "<a b=1/>", "<a b=\"1\" b=\"2\"/>", "<a>&nbsp;</a>",
                          "<a>&</a>", "<a/><b/>", "<a b=\"<\"/>", "text", ""}) {
    INFO(bad);
    CHECK(read_xml(bad).problem != "");
  }
}
