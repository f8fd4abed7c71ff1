#include "unhandled.hpp"

#include <keel/runtime/watchdog.hpp>

#include <cxxabi.h>
#include <cstdio>
#include <cstdlib>
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

// "      spawned by 'b' #3 < 'main' #1, last at x.cpp:5 in f\n", as far as that is known.
std::string circumstances(const task_description& task) {
  std::string text = task.spawned_by();
  if (const std::string place = task.place(); !place.empty()) {
    if (!text.empty()) text += ", ";
    text += "last at " + place;
  }
  return text.empty() ? text : "      " + text + "\n";
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

void print_and_terminate(const task_description& task, std::exception_ptr error) {
  std::fprintf(stderr,
               "keel: an exception left the task %s, which nobody joins: %s\n%s"
               "      join it, catch it, spawn it into a scope, or set runtime_options::on_exception\n",
               task.title().c_str(), describe(error).c_str(), circumstances(task).c_str());
  std::terminate();
}

void print_rate_limited(const task_description& task, std::error_code error) {
  static constinit line_limit lines;
  unsigned suppressed = 0;
  if (!lines.allows(suppressed)) return;
  std::fprintf(stderr,
               "keel: the task %s, which nobody joins, ended with: %s (%u more like this not shown)\n%s",
               task.title().c_str(), error.message().c_str(), suppressed, circumstances(task).c_str());
}

}  // namespace keel
