#include <doctest/doctest.h>

#include "examples/temporary_folder.hpp"
#include "httpd/file_cache.hpp"

#include <ctime>
#include <string>

#include <sys/stat.h>

using namespace httpd;
using httpd_test::temporary_folder;

namespace {

struct fixture {
  temporary_folder folder;
  site files = site::open(folder.path().string(), false).value();
  wall_clock clock;
  file_cache cache{100'000};

  void add(const std::string& name, std::string_view body) {
    folder.write(name, body);
    cache.insert(name, std::make_unique<cached_file>(name, files.look(name).value(), body, clock));
  }
};

// Waits for the clock to show another second, as the cache does; the only way to make it look again.
void next_second(wall_clock& clock) {
  std::int64_t before = clock.second();
  while (clock.second() == before) clock.refresh();
}

}  // namespace

TEST_CASE("file_cache: a hit is the whole answer") {
  fixture with;
  with.add("a.txt", "hello");

  const cached_file* hit = with.cache.find("a.txt", with.clock, with.files);

  REQUIRE(hit != nullptr);
  CHECK(hit->body() == "hello");
  CHECK(hit->head().starts_with("HTTP/1.1 200 OK\r\nDate: "));
  CHECK(hit->head().ends_with("\r\n\r\n"));
  CHECK(hit->head().find("Content-Length: 5\r\n") != std::string_view::npos);
  CHECK(hit->answer() == std::string(hit->head()) + std::string(hit->body()));
  CHECK(with.cache.find("b.txt", with.clock, with.files) == nullptr);
}

TEST_CASE("file_cache: sees a changed file in the next second, and keeps one that is the same") {
  fixture with;
  with.add("a.txt", "hello");
  with.add("b.txt", "hello");
  with.add("c.txt", "hello");
  with.folder.write("a.txt", "other");
  std::filesystem::remove(with.folder / "c.txt");

  next_second(with.clock);

  CHECK(with.cache.find("a.txt", with.clock, with.files) == nullptr);
  CHECK(with.cache.find("c.txt", with.clock, with.files) == nullptr);
  const cached_file* same = with.cache.find("b.txt", with.clock, with.files);
  REQUIRE(same != nullptr);
  CHECK(same->head().substr(date_offset, http_date_size) == with.clock.date());
  CHECK(with.cache.size() == 1);
}

TEST_CASE("file_cache: stays within its bytes; what was not asked for goes first") {
  fixture with;
  const std::string body(10'000, 'x');
  for (char name = 'a'; name <= 'z'; ++name) {
    with.add(std::string(1, name), body);
    REQUIRE(with.cache.bytes() <= 100'000);
    REQUIRE(with.cache.find("a", with.clock, with.files) != nullptr);
  }

  CHECK(with.cache.find("z", with.clock, with.files) != nullptr);
  CHECK(with.cache.find("b", with.clock, with.files) == nullptr);
  CHECK(with.cache.size() > 5);
}

TEST_CASE("file_cache: a second insert replaces the first") {
  fixture with;
  with.add("a", "one");
  std::size_t bytes = with.cache.bytes();
  with.add("a", "two");

  CHECK(with.cache.size() == 1);
  CHECK(with.cache.bytes() == bytes);
  CHECK(with.cache.find("a", with.clock, with.files)->body() == "two");
}

TEST_CASE("file_cache: a file that was changed just now is too young to be kept") {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);

  CHECK(!is_settled({.changed_s = now.tv_sec, .changed_ns = now.tv_nsec}));
  CHECK(is_settled({.changed_s = now.tv_sec - 1, .changed_ns = now.tv_nsec}));
  CHECK(is_settled({.changed_s = now.tv_sec - 1000, .changed_ns = 999'999'999}));
}
