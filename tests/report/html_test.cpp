#include "report/html.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/config_text.h"
#include "report/markup.h"

namespace apo::report {
namespace {

TEST(Escape, LeavesNoWayIntoTheMarkup) {
  EXPECT_EQ(escape("<b a='1' c=\"2\">&amp;"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;amp;");
  EXPECT_EQ(escape("plain äöü – 机器人 🤖\tend\n"), "plain äöü – 机器人 🤖\tend\n");
}

TEST(Link, LeadsToAFileBesideThePageAndNowhereElse) {
  EXPECT_EQ(link_to("base/training/report.html", "its <page>"),
            "<a href=\"./base/training/report.html\">its &lt;page&gt;</a>");
  EXPECT_EQ(link_to("javascript:alert('x')//", "x"), "<a href=\"./javascript%3Aalert%28%27x%27%29//\">x</a>");
  EXPECT_EQ(link_to("data:text/html,<b>", "x"), "<a href=\"./data%3Atext/html%2C%3Cb%3E\">x</a>");
  EXPECT_EQ(link_to("a b?c#d%\"\xc3\xa4", "x"), "<a href=\"./a%20b%3Fc%23d%25%22%C3%A4\">x</a>");
}

TEST(Escape, ReplacesControlCharactersAndBrokenUtf8) {
  const std::string replacement = "\xEF\xBF\xBD";
  EXPECT_EQ(escape(std::string_view("a\0b", 3)), "a" + replacement + "b");
  EXPECT_EQ(escape("\x1b[31m"), replacement + "[31m");
  EXPECT_EQ(escape("\xff<"), replacement + "&lt;");
  EXPECT_EQ(escape("\xC3"), replacement);                                      // cut in the middle
  EXPECT_EQ(escape("\xC0\xBC"), replacement + replacement);                    // overlong '<'
  EXPECT_EQ(escape("\xE0\x80\xBC"), replacement + replacement + replacement);  // the same in three bytes
  EXPECT_EQ(escape("\xED\xA0\x80"), replacement + replacement + replacement);  // a surrogate
  EXPECT_EQ(escape("line\r\nend"), "line\nend");
}

TEST(Format, NumbersKeepTheirSignificantDigits) {
  EXPECT_EQ(format_number(0.53124), "0.531");
  EXPECT_EQ(format_number(0.5), "0.5");
  EXPECT_EQ(format_number(12345.6), "12,346");
  EXPECT_EQ(format_number(-12.345, 4), "-12.35");  // 12.345 lies a little above the tie in binary
  EXPECT_EQ(format_number(0.00002), "2e-5");
  EXPECT_EQ(format_number(0.0009996), "1e-3");
  EXPECT_EQ(format_number(1.5e12), "1.5e12");
  EXPECT_EQ(format_number(0), "0");
  EXPECT_EQ(format_number(std::nan("")), "–");
  EXPECT_EQ(format_number(std::numeric_limits<double>::infinity()), "–");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_fixed(-0.004, 2), "0.00");
  EXPECT_EQ(format_percent(0.534), "53%");
  EXPECT_EQ(format_percent(0.534, 1), "53.4%");
}

TEST(Format, TimesAndSizesChooseTheirUnit) {
  EXPECT_EQ(format_duration(0.085), "85 ms");
  EXPECT_EQ(format_duration(5.44), "5.4 s");
  EXPECT_EQ(format_duration(72.3), "72 s");
  EXPECT_EQ(format_duration(192), "3 min 12 s");
  EXPECT_EQ(format_duration(3600 * 2 + 60 * 5 + 3), "2 h 5 min");
  EXPECT_EQ(format_duration(86400.0 * 3 + 3600 * 4), "3 d 4 h");
  EXPECT_EQ(format_duration(1e300), "1e300 s");
  EXPECT_EQ(format_bytes(512.0 * 1024 * 1024), "512 MiB");
  EXPECT_EQ(format_bytes(1.4 * 1024 * 1024 * 1024), "1.4 GiB");
  EXPECT_EQ(format_bytes(2048), "2 KiB");
  EXPECT_EQ(count_of(1, "round"), "1 round");
  EXPECT_EQ(count_of(1200, "step"), "1,200 steps");
}

TEST(Table, EscapesItsCells) {
  const std::string html = draw(Table{{"<h>", "b"}, {{"x&y", "1"}}});
  EXPECT_EQ(testing::markup_fault(html), "");
  EXPECT_NE(html.find("<th>&lt;h&gt;</th>"), std::string::npos);
  EXPECT_NE(html.find("<td>x&amp;y</td>"), std::string::npos);
}

constexpr const char* kConfig =
    "# a run\n"
    "objective:\n"
    "  type: apo  # the paper's\n"
    "  weights:\n"
    "    type: uniform\n"
    "  beta: 0.5\n"
    "optimizer:\n"
    "  type: \"adam: w\"\n"
    "data:\n"
    "  expert:\n"
    "    - path: a.hdf5\n"
    "run:\n"
    "  seed: 7\n";

TEST(ConfigValue, FindsScalarsByTheirDottedKey) {
  EXPECT_EQ(config_value(kConfig, "objective.type"), "apo");
  EXPECT_EQ(config_value(kConfig, "objective.weights.type"), "uniform");
  EXPECT_EQ(config_value(kConfig, "objective.beta"), "0.5");
  EXPECT_EQ(config_value(kConfig, "optimizer.type"), "adam: w");
  EXPECT_EQ(config_value(kConfig, "run.seed"), "7");
  EXPECT_EQ(config_value(kConfig, "type"), "");
  EXPECT_EQ(config_value(kConfig, "objective.gamma"), "");
  EXPECT_EQ(config_value("", "a"), "");
  EXPECT_EQ(config_value("::\n:\n  -\n\"", "a"), "");
}

TEST(ConfigDigest, NamesOptionsOfTheReferenceOnlyWhereThereIsOne) {
  EXPECT_EQ(config_digest(kConfig), "β 0.5 · seed 7");
  EXPECT_EQ(config_digest("objective:\n  type: sft\n  beta: 0.5\nrun:\n  seed: 7\n"), "seed 7");
}

TEST(ConfigBlock, EscapesAndCutsLongTexts) {
  EXPECT_EQ(config_block("config", " \n"), "");
  EXPECT_NE(config_block("config", "a: <script>").find("a: &lt;script&gt;"), std::string::npos);
  const std::string html = config_block("config", std::string(1 << 20, 'x'));
  EXPECT_LT(html.size(), 300u * 1024);
  EXPECT_NE(html.find("Cut here: the whole text has 1 MiB"), std::string::npos);
}

}  // namespace
}  // namespace apo::report
