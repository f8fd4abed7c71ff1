// Watches over the whole program: no test case leaves a descriptor behind. Where the engine that KEEL_ENGINE
// insists on is not to be had, the program is skipped.

#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/descriptors.hpp"

namespace {

constexpr int exit_skipped = 77;

// INODE and SIGNAL may keep a descriptor for the process: they make it here.
void warm_up() {
  const int queue = ::kevent_init(nullptr, 0, 0);
  if (queue == -EPERM || queue == -ENOSYS) {
    std::printf("[skipped] the engine of KEEL_ENGINE: %s\n", std::strerror(-queue));
    std::exit(exit_skipped);
  }
  if (queue < 0) return;
  const keel::unique_fd folder(::open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC));
  ukevent events[] = {keel::test::event_of(KEVENT_INODE, std::uint32_t(folder.get()), KEVENT_INODE_CREATE),
                      keel::test::event_of(KEVENT_SIGNAL, SIGUSR1, KEVENT_SIGNAL_DELIVERY)};
  events[1].id.raw_u64 |= KEVENT_SIGNAL_NOMASK;
  ::kevent_ctl(queue, KEVENT_CTL_ADD, 2, events);
  ::kevent_close(queue);
}

struct leak_watch : doctest::IReporter {
  explicit leak_watch(const doctest::ContextOptions& /*options*/) {}
  void report_query(const doctest::QueryData& /*query*/) override {}
  void test_run_start() override { warm_up(); }
  void test_run_end(const doctest::TestRunStats& /*stats*/) override {
    for (const std::string& leak : leaks) std::printf("ERROR: left descriptors open: %s\n", leak.c_str());
    std::fflush(stdout);
    if (!leaks.empty()) std::_Exit(1);
  }
  void test_case_start(const doctest::TestCaseData& test) override {
    name = test.m_name;
    at_start = keel::test::open_descriptors();
  }
  void test_case_reenter(const doctest::TestCaseData& /*test*/) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& /*stats*/) override {
    const std::size_t at_end = keel::test::open_descriptors();
    if (at_end > at_start) leaks.push_back(name + ": " + std::to_string(at_end - at_start));
  }
  void test_case_exception(const doctest::TestCaseException& /*error*/) override {}
  void subcase_start(const doctest::SubcaseSignature& /*subcase*/) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData& /*data*/) override {}
  void log_message(const doctest::MessageData& /*message*/) override {}
  void test_case_skipped(const doctest::TestCaseData& /*test*/) override {}

  std::string name;
  std::size_t at_start = 0;
  std::vector<std::string> leaks;
};

}  // namespace

REGISTER_LISTENER("leak_watch", 2, leak_watch);
