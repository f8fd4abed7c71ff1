#define _GNU_SOURCE
#include "request.h"

#include <string.h>
#include <strings.h>

size_t head_size(const char* bytes, size_t size) {
  const char* end = memmem(bytes, size, "\r\n\r\n", 4);
  return end == NULL ? 0 : (size_t)(end - bytes) + 4;
}

struct text {
  const char* at;
  size_t size;
};

static bool equals(struct text text, const char* word) {
  return text.size == strlen(word) && strncasecmp(text.at, word, text.size) == 0;
}

// Cuts the front of `rest` up to `separator` off; everything when there is none.
static struct text cut(struct text* rest, const char* separator) {
  const size_t length = strlen(separator);
  const char* found = memmem(rest->at, rest->size, separator, length);
  struct text front = *rest;
  if (found == NULL) {
    *rest = (struct text){rest->at + rest->size, 0};
    return front;
  }
  front.size = (size_t)(found - rest->at);
  *rest = (struct text){found + length, rest->size - front.size - length};
  return front;
}

static struct text trim(struct text text) {
  while (text.size > 0 && (*text.at == ' ' || *text.at == '\t')) ++text.at, --text.size;
  while (text.size > 0 && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t')) --text.size;
  return text;
}

static int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Decodes %XX; false for a broken one, for control characters, and when it is too long.
static bool decode(struct text coded, char* out) {
  size_t n = 0;
  for (size_t i = 0; i < coded.size; ++i, ++n) {
    char c = coded.at[i];
    if (c == '%') {
      const int high = i + 2 < coded.size ? hex(coded.at[i + 1]) : -1;
      const int low = i + 2 < coded.size ? hex(coded.at[i + 2]) : -1;
      if (high < 0 || low < 0) return false;
      c = (char)(high * 16 + low);
      i += 2;
    }
    if (n + 1 >= path_max || (unsigned char)c < ' ' || c == 127) return false;
    out[n] = c;
  }
  out[n] = '\0';
  return true;
}

// Every name between slashes must be an ordinary one: no "..", nothing hidden.
static bool stays_inside(const char* path) {
  for (const char* name = path; *name != '\0';) {
    const size_t length = strcspn(name, "/");
    if (length > 0 && name[0] == '.') return false;
    name += length;
    while (*name == '/') ++name;
  }
  return strchr(path, '\\') == NULL;
}

static int parse_target(struct request* request, struct text target) {
  char decoded[path_max];
  struct text path = cut(&target, "?");
  if (path.size == 0 || path.at[0] != '/' || !decode(path, decoded)) return 400;
  const char* inside = decoded + strspn(decoded, "/");
  if (!stays_inside(inside)) return 404;
  const size_t length = strlen(inside);
  const bool folder = length == 0 || inside[length - 1] == '/';
  const char* const index = folder ? "index.html" : "";
  if (length + strlen(index) >= path_max) return 404;
  memcpy(request->path, inside, length);
  strcpy(request->path + length, index);
  return 200;
}

// Returns false for what is no field. A body would have to be skipped: requests with one end the connection.
static bool parse_field(struct request* request, struct text line, bool* has_host, bool* has_body) {
  struct text value = line;
  const struct text name = cut(&value, ":");
  if (name.size == line.size || name.size == 0) return false;
  if (memchr(name.at, ' ', name.size) != NULL || memchr(name.at, '\t', name.size) != NULL) return false;
  value = trim(value);
  if (equals(name, "connection")) {
    while (value.size > 0) {
      const struct text word = trim(cut(&value, ","));
      if (equals(word, "close")) request->keep_alive = false;
      if (equals(word, "keep-alive")) request->keep_alive = true;
    }
  }
  if (equals(name, "host")) {
    if (*has_host) return false;
    *has_host = true;
  }
  if (equals(name, "transfer-encoding") || (equals(name, "content-length") && !equals(value, "0")))
    *has_body = true;
  return true;
}

void parse_request(struct request* request, const char* head, size_t size) {
  memset(request, 0, sizeof *request);
  struct text rest = {head, size - 4};
  struct text line = cut(&rest, "\r\n");
  const struct text method = cut(&line, " "), target = cut(&line, " "), version = line;
  const bool newer = equals(version, "HTTP/1.1");
  request->status = 400;
  if (method.size == 0 || memchr(head, '\0', size) != NULL || (!newer && !equals(version, "HTTP/1.0")))
    return;
  request->keep_alive = newer;

  bool has_host = false, has_body = false;
  while (rest.size > 0) {
    if (!parse_field(request, cut(&rest, "\r\n"), &has_host, &has_body)) {
      request->keep_alive = false;
      return;
    }
  }
  if (has_body) request->keep_alive = false;
  if (newer && !has_host) return;
  request->head = method.size == 4 && memcmp(method.at, "HEAD", 4) == 0;
  const bool get = method.size == 3 && memcmp(method.at, "GET", 3) == 0;
  request->status = get || request->head ? parse_target(request, target) : 405;
}
