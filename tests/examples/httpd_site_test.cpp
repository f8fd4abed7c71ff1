#include <doctest/doctest.h>

#include "examples/temporary_folder.hpp"
#include "httpd/site.hpp"

#include <string>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace httpd;
using httpd_test::temporary_folder;

namespace {

site opened_site(const temporary_folder& folder) {
  auto result = site::open(folder.path().string(), false);
  return std::move(result).value();
}

}  // namespace

TEST_CASE("site: opens files and directories") {
  temporary_folder folder;
  folder.write("a/b.txt", "hello");
  site files = opened_site(folder);

  opened file = files.open("a/b.txt");
  REQUIRE(file.is_file());
  CHECK(file.info().size == 5);
  keel::unique_fd fd = file.take_fd();
  char text[8];
  CHECK(read(fd.get(), text, sizeof text) == 5);
  CHECK((fcntl(fd.get(), F_GETFL) & O_NONBLOCK) == 0);
  CHECK(files.open("").is_directory());
  CHECK(files.open("a").is_directory());
  CHECK(files.open("a/").is_directory());
}

TEST_CASE("site: 404 for what is not there") {
  temporary_folder folder;
  folder.write("file", "");
  site files = opened_site(folder);

  CHECK(files.open("nothing").refusal() == 404);
  CHECK(files.open("file/").refusal() == 404);
  CHECK(files.open("file/x").refusal() == 404);
  CHECK(files.open(std::string(300, 'a')).refusal() == 404);
  CHECK(files.open(std::string(5000, 'a')).refusal() == 404);
}

TEST_CASE("site: links stay inside, or are refused") {
  temporary_folder folder, outside;
  outside.write("secret", "secret");
  folder.write("a/file", "x");
  namespace fs = std::filesystem;
  fs::create_symlink("a/file", folder / "inside");
  fs::create_symlink("../a/file", folder / "a/up_and_down");
  fs::create_symlink(outside / "secret", folder / "absolute");
  fs::create_directory_symlink(outside.path(), folder / "folder");
  fs::create_symlink("../" + outside.path().filename().string() + "/secret", folder / "relative");
  fs::create_symlink("/proc/self/exe", folder / "magic");
  fs::create_symlink("loop", folder / "loop");
  site files = opened_site(folder);

  CHECK(files.open("inside").is_file());
  CHECK(files.open("a/up_and_down").is_file());
  for (const char* path : {"absolute", "folder", "folder/", "folder/secret", "relative", "magic", "loop"}) {
    CAPTURE(path);
    CHECK(files.open(path).refusal() == 403);
  }
}

TEST_CASE("site: where the kernel cannot confine a path, no link is followed") {
  temporary_folder folder, outside;
  outside.write("secret", "secret");
  folder.write("a/b/file", "x");
  namespace fs = std::filesystem;
  fs::create_symlink("a/b/file", folder / "inside");
  fs::create_directory_symlink("a", folder / "folder");
  fs::create_directory_symlink(outside.path(), folder / "leaving");
  site files = site::open(folder.path().string(), false, false).value();

  CHECK(files.open("").is_directory());
  CHECK(files.open("a/b").is_directory());
  CHECK(files.open("a/b/").is_directory());
  CHECK(files.open("a/b/file").is_file());
  CHECK(files.open("a/b/file/").refusal() == 404);
  CHECK(files.open("a/none/file").refusal() == 404);
  CHECK(files.open(std::string(300, 'a') + "/b").refusal() == 404);
  for (const char* path :
       {"inside", "folder", "folder/", "folder/b/file", "leaving", "leaving/", "leaving/secret"}) {
    CAPTURE(path);
    CHECK(files.open(path).refusal() >= 403);
  }
}

TEST_CASE("site: only files and directories, and none of them blocks") {
  temporary_folder folder;
  REQUIRE(mkfifo((folder / "fifo").c_str(), 0600) == 0);
  site files = opened_site(folder);

  CHECK(files.open("fifo").refusal() == 403);
}

TEST_CASE("site: 503 when no descriptor is left") {
  temporary_folder folder;
  folder.write("file", "");
  site files = opened_site(folder);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;

  setrlimit(RLIMIT_NOFILE, &none);
  int refusal = files.open("file").refusal();
  setrlimit(RLIMIT_NOFILE, &before);

  CHECK(refusal == 503);
  CHECK(files.open("file").is_file());
}

TEST_CASE("site: look() sees what open() saw, until the file changes") {
  temporary_folder folder;
  folder.write("file", "one");
  site files = opened_site(folder);
  file_info info = files.open("file").info();
  CHECK(files.look("file") == info);

  folder.write("other", "two");
  std::filesystem::last_write_time(folder / "other", std::filesystem::last_write_time(folder / "file"));
  std::filesystem::rename(folder / "other", folder / "file");
  CHECK(files.look("file") != info);

  std::filesystem::remove(folder / "file");
  CHECK(!files.look("file"));
}

TEST_CASE("site: a folder that cannot be opened is an error") {
  temporary_folder folder;
  folder.write("file", "");

  CHECK(site::open((folder / "nothing").string(), false).error() == std::errc::no_such_file_or_directory);
  CHECK(site::open((folder / "file").string(), false).error() == std::errc::not_a_directory);
}
