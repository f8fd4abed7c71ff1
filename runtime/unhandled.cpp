#include "unhandled.hpp"

#include <cxxabi.h>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <typeinfo>

namespace keel {
namespace {

std::string demangled(const std::type_info* type) {
  if (type == nullptr) return "an exception";
  int status = 0;
  char* text = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  std::string name = text != nullptr ? text : type->name();
  std::free(text);
  return name;
}

const char* printable(const char* task) noexcept {
  return task != nullptr ? task : "unnamed";
}

}  // namespace

std::string describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return demangled(abi::__cxa_current_exception_type()) + ": " + e.what();
  } catch (...) {
    return demangled(abi::__cxa_current_exception_type());
  }
}

void print_and_terminate(const char* task, std::exception_ptr error) {
  std::fprintf(stderr,
               "keel: an exception left the task '%s', which nobody joins: %s\n"
               "      join it, catch it, spawn it into a scope, or set runtime_options::on_exception\n",
               printable(task), describe(error).c_str());
  std::terminate();
}

void print_rate_limited(const char* task, std::error_code error) {
  constexpr long interval_s = 5;
  static constinit std::atomic<long> next_allowed_s{0};
  static constinit std::atomic<unsigned> suppressed{0};
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  long allowed = next_allowed_s.load(std::memory_order_relaxed);
  if (now.tv_sec < allowed || !next_allowed_s.compare_exchange_strong(allowed, now.tv_sec + interval_s)) {
    suppressed.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  std::fprintf(stderr,
               "keel: the task '%s', which nobody joins, ended with: %s (%u more like this not shown)\n",
               printable(task), error.message().c_str(), suppressed.exchange(0, std::memory_order_relaxed));
}

}  // namespace keel
