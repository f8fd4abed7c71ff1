// A thread that makes a call which sleeps, and the moment from which it does.
#pragma once

#include <sys/types.h>
#include <unistd.h>
#include <atomic>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>

namespace keel::test {

inline bool thread_sleeps(pid_t thread) {
  const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return false;
  char text[512] = {};
  const std::size_t size = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  const std::string_view stat(text, size);
  const std::size_t end_of_name = stat.rfind(')');
  return end_of_name != stat.npos && end_of_name + 2 < size && stat[end_of_name + 2] == 'S';
}

// Does `action` on a thread of its own as soon as the thread that made *this was seen asleep several times in
// a row; its destructor waits for the end of that.
class when_asleep {
 public:
  template <class Action>
  explicit when_asleep(Action action)
      : thread_([this, action, sleeper = ::gettid()] {
          for (int seen = 0; seen < 20 && !given_up_;) {
            seen = thread_sleeps(sleeper) ? seen + 1 : 0;
            std::this_thread::yield();
          }
          if (!given_up_) action();
        }) {}
  when_asleep(const when_asleep&) = delete;
  when_asleep& operator=(const when_asleep&) = delete;
  ~when_asleep() {
    given_up_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> given_up_{false};
  std::thread thread_;
};

}  // namespace keel::test
