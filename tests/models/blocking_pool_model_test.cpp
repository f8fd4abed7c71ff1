// The threads of a blocking pool, and the engine that they answer. Transcribes submit, serve, finish, idle,
// end, take_back, collect, leave and the destructor of kevent_sys/blocking_pool.cpp, and
// engine_calls::collect.

#include <doctest/doctest.h>

#include <mutex>
#include <utility>

#include "models/memory.hpp"

using keel::test::any_of;
using keel::test::atomic;
using keel::test::bell;
using keel::test::condition_variable;
using keel::test::expect;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::model;
using keel::test::mutex;
using keel::test::plain;
using keel::test::step;

namespace {

enum class mutation {
  none,
  idle_ignores_call,   // a worker whose time is up ends, although it was called just now
  late_news,           // collect() says without the lock that it has seen all
  early_news,          // a worker looks whether to wake the engine before its answer is in the list
  leaves_at_once,      // the engine goes while a worker may still wake it
  running_ends_early,  // a call counts as run before the engine was woken for it
  takes_back_any,      // a call that was begun is taken back
  nobody_refuses,      // calls wait although there is no thread and none can be had
  silent_shutdown,     // idle workers are not told
};

struct setup {
  unsigned calls = 2;
  unsigned threads_max = 2;
  bool threads_can_fail = false;
  bool cancels = false;   // the engine takes back its first call, if it can
  bool gives_up = false;  // idle workers may end before they are called
};

constexpr unsigned calls_max = 3;

struct pool : model {
  struct operation {
    bool begun = false;
    unsigned performed = 0;
    plain<int> answer{0};
    unsigned answered = 0;
    bool taken_back = false;
  };
  // An intrusive list of operations, in order.
  struct list {
    unsigned ids[calls_max];
    unsigned size = 0;
    void push(unsigned id) { ids[size++] = id; }
    unsigned pop() {
      const unsigned first = ids[0];
      erase(first);
      return first;
    }
    void erase(unsigned id) {
      unsigned kept = 0;
      for (unsigned i = 0; i < size; ++i)
        if (ids[i] != id) ids[kept++] = ids[i];
      size = kept;
    }
  };
  struct worker {
    bool made = false;
    bool over = false;  // it never was made
    bool wanted = false;
    bool ended = false;
    condition_variable called;
  };

  pool(const setup& s, mutation m) : how(s), broken(m) {
    label(&guard, "the pool's lock");
    label(&changed, "a change");
    label(&engine_bell, "the bell of the engine");
    label(&news, "news");
    for (worker& w : workers) {
      label(&w, "its start");
      label(&w.called, "a call");
    }
  }

  unsigned threads() const override { return 3; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"engine", "worker 1", "worker 2"};
    return names[thread];
  }
  void run(unsigned thread) override { thread == 0 ? engine() : thread_main(workers[thread - 1]); }

  // The engine.
  void engine() {
    for (unsigned i = 0; i < how.calls; ++i) submit(i);
    if (how.cancels) take_back(0);
    for (unsigned out = how.calls - (operations[0].taken_back ? 1 : 0);;) {
      out -= collect();
      if (out == 0) break;
      engine_bell.wait();
    }
    leave();
    engine_gone = true;
    shut_down();
    pool_gone = true;
    for (worker& w : workers) w.over = true;
  }

  void submit(unsigned id) {
    std::unique_lock lock(guard);
    waiting.push(id);
    if (call_idle_worker() || count == how.threads_max) return;
    ++count;
    lock.unlock();
    const bool started = start_thread();
    lock.lock();
    if (!started && --count == 0 && broken != mutation::nobody_refuses) refuse_all(lock);
  }

  bool start_thread() {
    if (how.threads_can_fail && any_of(2) != 0) return false;
    step("starts a thread", &workers[made]);
    workers[made++].made = true;
    return true;
  }

  bool call_idle_worker() {
    if (idle_count == 0) return false;
    worker& w = *idle_workers[--idle_count];
    w.wanted = true;
    w.called.notify_one();
    return true;
  }

  void refuse_all(std::unique_lock<mutex>& lock) {
    while (count == 0 && waiting.size != 0) {
      const unsigned id = take_waiting();
      finish_call(id, lock);
    }
  }

  void take_back(unsigned id) {
    const std::lock_guard lock(guard);
    if (operations[id].begun && broken != mutation::takes_back_any) return;
    if (operations[id].answered != 0) return;
    waiting.erase(id);
    operations[id].begun = true;
    operations[id].taken_back = true;
  }

  unsigned collect() {
    if (!news.load(std::memory_order_acquire)) return 0;
    list ready;
    {
      const std::lock_guard lock(guard);
      ready = std::exchange(finished, list());
      if (broken != mutation::late_news) news.store(false, std::memory_order_relaxed);
    }
    if (broken == mutation::late_news) news.store(false, std::memory_order_relaxed);
    for (unsigned i = 0; i < ready.size; ++i) {
      operation& op = operations[ready.ids[i]];
      expect(op.answer != 0, "an answer without a value");
      ++op.answered;
    }
    return ready.size;
  }

  void leave() {
    const std::lock_guard lock(guard);
    while (running != 0 && broken != mutation::leaves_at_once) changed.wait(guard);
  }

  void shut_down() {
    {
      const std::lock_guard lock(guard);
      stopping = true;
      while (broken != mutation::silent_shutdown && call_idle_worker()) {
      }
      while (count != 0) changed.wait(guard);
    }
    for (worker& w : workers)
      if (w.made) join(w);
  }

  static void join(worker& w) {
    const auto over = [](const void* self) { return static_cast<const worker*>(self)->ended; };
    step("joins the thread of", &w, {over, &w});
  }

  // A worker.
  void thread_main(worker& me) {
    const auto begins = [](const void* self) {
      return static_cast<const worker*>(self)->made || static_cast<const worker*>(self)->over;
    };
    step("waits for", &me, {begins, &me});
    if (me.over) return;
    {
      std::unique_lock lock(guard);
      do {
        while (waiting.size != 0) serve(lock);
      } while (!stopping && idle(me));
      expect(!pool_gone, "a worker works in a pool that has gone");
      --count;
      changed.notify_all();
    }
    me.ended = true;
  }

  unsigned take_waiting() {
    const unsigned id = waiting.pop();
    operations[id].begun = true;
    ++running;
    return id;
  }

  void serve(std::unique_lock<mutex>& lock) {
    const unsigned id = take_waiting();
    lock.unlock();
    ++operations[id].performed;
    lock.lock();
    finish_call(id, lock);
  }

  // finish(), and what its callers do next.
  void finish_call(unsigned id, std::unique_lock<mutex>& lock) {
    operations[id].answer = 1;
    if (broken == mutation::running_ends_early && --running == 0) changed.notify_all();
    bool first = false;
    if (broken == mutation::early_news) {
      lock.unlock();
      first = !news.exchange(true, std::memory_order_release);
      lock.lock();
      finished.push(id);
    } else {
      finished.push(id);
      first = !news.exchange(true, std::memory_order_release);
    }
    if (first) {
      lock.unlock();
      engine_bell.ring();
      expect(!engine_gone, "an engine is woken that has gone");
      lock.lock();
    }
    if (broken != mutation::running_ends_early && --running == 0) changed.notify_all();
  }

  bool idle(worker& me) {
    me.wanted = false;
    idle_workers[idle_count++] = &me;
    while (!me.wanted) {
      if (!how.gives_up) {
        me.called.wait(guard);
      } else if (!me.called.wait_or_give_up(guard)) {
        break;
      }
    }
    if (me.wanted && broken != mutation::idle_ignores_call) return true;
    if (me.wanted) return false;
    unsigned kept = 0;
    for (unsigned i = 0; i < idle_count; ++i)
      if (idle_workers[i] != &me) idle_workers[kept++] = idle_workers[i];
    idle_count = kept;
    return false;
  }

  void finish() override {
    for (unsigned i = 0; i < how.calls; ++i) {
      const operation& op = operations[i];
      expect(op.answered == (op.taken_back ? 0u : 1u), "a call was answered twice, or never");
      expect(op.performed <= op.answered, "a call ran that was taken back, or ran twice");
    }
  }

  const setup how;
  const mutation broken;
  mutex guard;
  condition_variable changed;
  atomic<bool> news{false};
  bell engine_bell;
  operation operations[calls_max];
  list waiting;
  list finished;
  unsigned running = 0;
  unsigned count = 0;
  unsigned made = 0;
  bool stopping = false;
  worker workers[2];
  worker* idle_workers[2] = {};
  unsigned idle_count = 0;
  bool engine_gone = false;
  bool pool_gone = false;
};

findings run(const setup& s, mutation m = mutation::none, const exploration& how = {}) {
  return explore<pool>(how, s, m);
}

constexpr setup one_thread{.threads_max = 1};
constexpr setup two_threads{};
constexpr setup cancelled{.calls = 2, .threads_max = 1, .cancels = true};
constexpr setup short_of_threads{.calls = 2, .threads_max = 2, .threads_can_fail = true};
constexpr setup idle_ends{.calls = 2, .threads_max = 1, .gives_up = true};

}  // namespace

TEST_CASE(
    "blocking pool model, B11 C1: each call is answered once, and the pool ends after its last wake-up") {
  CHECK(run(one_thread).problem() == "");
  CHECK(run(two_threads).problem() == "");
}

TEST_CASE("blocking pool model, C2: a call is taken back, or answered") {
  CHECK(run(cancelled).problem() == "");
}

TEST_CASE("blocking pool model, H10: calls are refused when no thread can be had, and only then") {
  CHECK(run(short_of_threads).problem() == "");
}

TEST_CASE("blocking pool model, B11: a call that finds an idle thread is done, though its time was up") {
  CHECK(run(idle_ends).problem() == "");
}

TEST_CASE("blocking pool model, B11: mutations lose a call, or touch what has gone") {
  CHECK(run(two_threads, mutation::late_news).failed_with("nobody can go on: engine: sleeps until the bell"));
  CHECK(
      run(two_threads, mutation::early_news).failed_with("nobody can go on: engine: sleeps until the bell"));
  CHECK(run(one_thread, mutation::leaves_at_once).failed_with("an engine is woken that has gone"));
  CHECK(run(one_thread, mutation::running_ends_early).failed_with("an engine is woken that has gone"));
  CHECK(run(cancelled, mutation::takes_back_any).failed());
  CHECK(run(short_of_threads, mutation::nobody_refuses).failed_with("nobody can go on: engine: sleeps"));
  CHECK(
      run(one_thread, mutation::silent_shutdown).failed_with("nobody can go on: engine: waits for a change"));
  CHECK(run(idle_ends, mutation::idle_ignores_call).failed_with("nobody can go on: engine: sleeps"));
}
