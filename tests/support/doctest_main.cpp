#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "support/skip.hpp"

namespace {

constexpr int exit_skipped = 77;

unsigned cases_skipped = 0;
unsigned cases_run = 0;

// Doctest tells only reporters how many test cases it ran.
struct case_counter : doctest::IReporter {
  explicit case_counter(const doctest::ContextOptions& /*options*/) {}
  void report_query(const doctest::QueryData& /*query*/) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    cases_run = stats.numTestCasesPassingFilters;
  }
  void test_case_start(const doctest::TestCaseData& /*test*/) override {}
  void test_case_reenter(const doctest::TestCaseData& /*test*/) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& /*stats*/) override {}
  void test_case_exception(const doctest::TestCaseException& /*error*/) override {}
  void subcase_start(const doctest::SubcaseSignature& /*subcase*/) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData& /*data*/) override {}
  void log_message(const doctest::MessageData& /*message*/) override {}
  void test_case_skipped(const doctest::TestCaseData& /*test*/) override {}
};

}  // namespace

REGISTER_LISTENER("case_counter", 1, case_counter);

void keel::test::skip(const char* reason) {
  ++cases_skipped;
  std::printf("[skipped] %s: %s\n", doctest::getContextOptions()->currentTest->m_name, reason);
}

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  int code = context.run();
  if (cases_skipped > 0) std::printf("[skipped] test cases: %u\n", cases_skipped);
  bool nothing_was_tested = code == 0 && cases_skipped > 0 && cases_skipped == cases_run;
  return nothing_was_tested ? exit_skipped : code;
}
