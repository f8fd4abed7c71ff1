// keel inside GLib's main loop, as in a program with windows: callbacks of GLib's start tasks of keel's, and
// tasks end GLib's loop.
//
//     build/release/examples/in_glib_loop
//     glib: asks keel for the answer
//     glib: tick
//     glib: tick
//     keel: has slept 250 ms, a thread has computed 42
//     keel: 3 bytes came through a socket that GLib writes to: yes
//     bye

#include <keel/keel.hpp>

#include <glib-unix.h>
#include <glib.h>

#include <sys/socket.h>
#include <unistd.h>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>

using namespace keel;
using namespace std::chrono_literals;

namespace {

struct program {
  runtime rt;
  GMainLoop* loop = g_main_loop_new(nullptr, FALSE);
  unique_fd ours;
  unique_fd theirs;

  ~program() { g_main_loop_unref(loop); }
};

// All that it takes: whenever the descriptor is readable, keel does what is to be done, and comes back.
gboolean keel_is_ready(gint, GIOCondition, gpointer self) {
  static_cast<program*>(self)->rt.run_ready();
  return G_SOURCE_CONTINUE;
}

task<> answer(program& p) {
  if (!co_await sleep_for(250ms)) co_return;
  const int computed = co_await blocking([] { return 6 * 7; });
  std::printf("keel: has slept 250 ms, a thread has computed %d\n", computed);

  // A task may call GLib: it runs inside a callback of it.
  g_idle_add(
      [](gpointer self) -> gboolean {
        const auto n = ::write(static_cast<program*>(self)->theirs.get(), "yes", 3);
        return n == 3 ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
      },
      &p);
  fd_watch watch(p.ours.get());
  if (!co_await watch.readable()) co_return;
  std::array<char, 16> bytes{};
  const auto n = ::read(p.ours.get(), bytes.data(), bytes.size());
  std::printf("keel: %d bytes came through a socket that GLib writes to: %s\n", int(n), bytes.data());
  g_main_loop_quit(p.loop);
}

gboolean ask(gpointer self) {
  auto& p = *static_cast<program*>(self);
  std::printf("glib: asks keel for the answer\n");
  p.rt.spawn(answer, std::ref(p));
  return G_SOURCE_REMOVE;
}

gboolean tick(gpointer) {
  std::printf("glib: tick\n");
  return G_SOURCE_CONTINUE;
}

gboolean interrupted(gpointer self) {
  auto& p = *static_cast<program*>(self);
  p.rt.request_stop();
  g_main_loop_quit(p.loop);
  return G_SOURCE_CONTINUE;
}

}  // namespace

int main() {
  program p;
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return 1;
  p.ours.reset(ends[0]);
  p.theirs.reset(ends[1]);

  const guint sources[] = {
      g_unix_fd_add(p.rt.fd(), G_IO_IN, keel_is_ready, &p),
      g_unix_signal_add(SIGINT, interrupted, &p),
      g_timeout_add(100, tick, &p),
  };
  g_idle_add(ask, &p);
  g_main_loop_run(p.loop);
  for (const guint source : sources) g_source_remove(source);
  std::printf("bye\n");
}
