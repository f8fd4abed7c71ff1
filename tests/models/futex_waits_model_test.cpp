// The thread that waits for futexes in place of an engine. Transcribes add, remove, collect, take_woken,
// note_woken and run of kevent_sys/futex_waits.cpp, on a futex_waitv that compares all words and sleeps on
// them in one.

#include <doctest/doctest.h>

#include <algorithm>
#include <mutex>

#include "models/memory.hpp"

using keel::test::atomic;
using keel::test::bell;
using keel::test::expect;
using keel::test::exploration;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::model;
using keel::test::mutex;
using keel::test::step;

namespace {

enum class mutation {
  none,
  adds_silently,     // the thread is not poked for a new word
  control_too_late,  // what a poke changes is read after the words, without the lock
  late_news,         // the bell rings, and then it is said that there are news
  trusts_the_index,  // a word that has changed by itself does not count as woken
  removes_at_once,   // remove() does not ask whether the kernel has woken the thread for the word
  ends_silently,     // the thread is not poked to end
  clears_blindly,    // whoever collects forgets news without the lock
};

constexpr unsigned words_max = 2;

// An engine waits for one word or two; others change and wake them. It takes the first back, or waits for it.
struct waits : model {
  waits(unsigned how_many, bool takes_back, mutation m) : words(how_many), removes(takes_back), broken(m) {
    label(&guard, "the lock");
    label(&control, "the control word");
    label(&armed, "armed");
    label(&news, "news");
    label(&engine_bell, "the bell");
    label(&futex[0], "word 1");
    label(&futex[1], "word 2");
  }
  unsigned threads() const override { return 2 + words; }
  const char* name(unsigned thread) const override {
    static constexpr const char* names[] = {"engine", "futex thread", "waker 1", "waker 2"};
    return names[thread];
  }
  void run(unsigned thread) override {
    switch (thread) {
      case 0: engine(); break;
      case 1: wait_for_all(); break;
      default: change(thread - 2);
    }
  }

  void change(unsigned word) {
    futex[word].store(1);
    woke[word] = kernel_wake(futex[word]);
  }

  struct slot {
    unsigned op;
    bool woken = false;
    bool leaving = false;
  };

  void engine() {
    unsigned out = 0;
    for (unsigned op = 0; op < words; ++op) out += add(op) ? 1 : 0;
    if (removes && waiting[0] && remove(0)) --out;
    for (;;) {
      out -= collect();
      if (out == 0) break;
      engine_bell.wait();
    }
    if (!started) {
      never_made = true;
      return;
    }
    {
      const std::lock_guard lock(guard);
      expect(used == 0, "something waits that was collected");
      stopping = true;
    }
    if (broken != mutation::ends_silently) poke();
    const auto over = [](const void* self) { return *static_cast<const bool*>(self); };
    step("joins the thread", nullptr, {over, &ended});
  }

  // False: it has changed already.
  bool add(unsigned op) {
    if (futex[op].load() != 0) return false;
    waiting[op] = true;
    started = true;
    {
      const std::lock_guard lock(guard);
      slots[used++] = slot{op};
    }
    if (broken != mutation::adds_silently) poke();
    wait_until_armed();
    return true;
  }

  void wait_until_armed() {
    const std::uint32_t wanted = control.load();
    for (std::uint32_t now = armed.load(); static_cast<std::int32_t>(now - wanted) < 0; now = armed.load())
      keel::test::futex_wait(armed, now);
  }

  bool remove(unsigned op) {
    if (broken != mutation::removes_at_once) {
      {
        const std::lock_guard lock(guard);
        slot* const at = slot_of(op);
        if (at == nullptr || at->woken) return false;
        at->leaving = true;
      }
      poke();
      wait_until_armed();
    }
    {
      const std::lock_guard lock(guard);
      slot* const at = slot_of(op);
      if (at == nullptr || at->woken) return false;
      *at = slots[--used];
    }
    if (broken == mutation::removes_at_once) poke();
    removed[op] = true;
    return true;
  }
  slot* slot_of(unsigned op) {
    slot* const end = slots + used;
    slot* const at = std::find_if(slots, end, [&](const slot& s) { return s.op == op; });
    return at == end ? nullptr : at;
  }

  void poke() {
    control.fetch_add(1);
    (void)kernel_wake(control);
  }

  unsigned collect() {
    if (!news.load(std::memory_order_acquire)) return 0;
    unsigned n = 0;
    for (;; ++n) {
      std::unique_lock lock(guard);
      slot* const end = slots + used;
      slot* const at = std::find_if(slots, end, [](const slot& s) { return s.woken; });
      if (at == end) {
        if (broken == mutation::clears_blindly) lock.unlock();
        news.store(false, std::memory_order_release);
        return n;
      }
      expect(!removed[at->op], "a wait that was taken back was woken as well");
      expect(futex[at->op].now() == 1, "a wait was woken by nothing");
      ++told[at->op];
      std::copy(at + 1, end, at);
      --used;
    }
  }

  // futex_waitv(2). Others wake it by kernel_wake(). Woken by several before it runs, it tells of the last.
  struct vector_wait {
    const atomic<std::uint32_t>* words[words_max + 1];
    std::uint32_t values[words_max + 1];
    bool queued[words_max + 1] = {};
    unsigned count = 0;
    bool woken = false;
  };
  // The index of a word that was woken; -1 when one holds something else.
  int wait_for_any(vector_wait& v) {
    step("compares the words, and sleeps");
    for (unsigned i = 0; i < v.count; ++i)
      if (v.words[i]->now() != v.values[i]) return -1;
    v.woken = false;
    std::fill_n(v.queued, v.count, true);
    const auto woken = [](const void* self) { return static_cast<const vector_wait*>(self)->woken; };
    step("sleeps on the words", nullptr, {woken, &v});
    int last = -1;
    for (unsigned i = 0; i < v.count; ++i)
      if (!v.queued[i]) last = static_cast<int>(i);
    std::fill_n(v.queued, v.count, false);
    return last;
  }
  bool kernel_wake(const atomic<std::uint32_t>& word) {
    step("wakes who waits for", &word);
    for (unsigned i = 0; i < vector.count; ++i) {
      if (vector.words[i] != &word || !vector.queued[i]) continue;
      vector.queued[i] = false;
      vector.woken = true;
      return true;
    }
    return false;
  }

  // Those that were not woken yet, of which the kernel named one.
  bool note_woken(int index) {
    bool some = false;
    for (unsigned i = 0; i < used; ++i) {
      slot& s = slots[i];
      if (s.woken) continue;
      const bool named =
          index > 0 && static_cast<unsigned>(index) < vector.count && vector.words[index] == &futex[s.op];
      const bool differs =
          broken != mutation::trusts_the_index && futex[s.op].load(std::memory_order_acquire) != 0;
      s.woken = named || differs;
      some = some || s.woken;
    }
    return some;
  }

  void wait_for_all() {
    const auto is_decided = [](const void* self) {
      return static_cast<const waits*>(self)->started || static_cast<const waits*>(self)->never_made;
    };
    step("is made by the first wait", nullptr, {is_decided, this});
    if (never_made) return;
    for (int index = -1;;) {
      bool some = false;
      bool ends = false;
      {
        const std::lock_guard lock(guard);
        some = note_woken(index);
        if (some && broken != mutation::late_news) news.store(true, std::memory_order_release);
        ends = stopping;
        vector.count = 0;
        if (broken != mutation::control_too_late)
          list(control, control.load());
        else
          list(control, 0);
        for (unsigned i = 0; i < used; ++i)
          if (!slots[i].woken && !slots[i].leaving) list(futex[slots[i].op], 0);
      }
      if (ends) break;
      if (broken == mutation::control_too_late) vector.values[0] = control.load();
      if (some) engine_bell.ring();
      if (some && broken == mutation::late_news) news.store(true, std::memory_order_release);
      armed.store(vector.values[0]);
      keel::test::futex_wake(armed, 1);
      index = wait_for_any(vector);
    }
    ended = true;
  }
  void list(const atomic<std::uint32_t>& word, std::uint32_t value) {
    vector.words[vector.count] = &word;
    vector.values[vector.count++] = value;
  }

  void finish() override {
    for (unsigned op = 0; op < words; ++op)
      expect(told[op] == (waiting[op] && !removed[op] ? 1u : 0u), "a wait ended twice, or never");
    for (unsigned op = 0; op < words; ++op)
      expect(!woke[op] || told[op] == 1, "a wake-up was swallowed by a wait that was taken back");
  }

  const unsigned words;
  const bool removes;
  const mutation broken;
  atomic<std::uint32_t> futex[words_max];
  mutex guard;
  slot slots[words_max] = {};
  unsigned used = 0;
  bool stopping = false;
  bool started = false;
  bool never_made = false;
  bool ended = false;
  atomic<std::uint32_t> control;
  atomic<std::uint32_t> armed;
  atomic<bool> news;
  bell engine_bell;
  vector_wait vector;
  bool waiting[words_max] = {};
  bool removed[words_max] = {};
  unsigned told[words_max] = {};
  bool woke[words_max] = {};  // the waker was told that it woke somebody
};

findings run(unsigned words, bool removes, mutation m, const exploration& how = {}) {
  return explore<waits>(how, words, removes, m);
}

}  // namespace

TEST_CASE("futex model, B11: a word that has changed ends its wait, once") {
  CHECK(run(1, false, mutation::none).problem() == "");
  CHECK(run(2, false, mutation::none, {.preemptions = 2, .stale_reads = 0}).problem() == "");
}

TEST_CASE("futex model, C2: a wait is taken back, or ends") {
  CHECK(run(1, true, mutation::none).problem() == "");
}

TEST_CASE("futex model, B11 C2: mutations lose a wake-up, or tell of one twice") {
  CHECK(run(1, false, mutation::adds_silently).failed_with("nobody can go on"));
  CHECK(run(1, false, mutation::control_too_late).failed_with("nobody can go on"));
  CHECK(run(1, false, mutation::late_news).failed_with("nobody can go on"));
  CHECK(run(1, false, mutation::trusts_the_index).failed());
  CHECK(run(1, true, mutation::removes_at_once).failed_with("a wake-up was swallowed"));
  CHECK(run(1, false, mutation::ends_silently).failed_with("nobody can go on: engine: joins the thread"));
  CHECK(run(2, false, mutation::clears_blindly, {.preemptions = 2}).failed_with("nobody can go on"));
}
