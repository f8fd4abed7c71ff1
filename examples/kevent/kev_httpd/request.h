// Reads the head of an HTTP request.
#ifndef KEV_HTTPD_REQUEST_H
#define KEV_HTTPD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

enum { head_max = 8192, path_max = 1024 };

struct request {
  int status;  // 200, or what is wrong with it: 400, 404, 405
  bool head;   // HEAD: no body is to be sent
  bool keep_alive;
  char path[path_max];  // relative to the folder, decoded, with no way out of it
};

// The number of bytes of the first head in `bytes`, its empty line included; 0 while that is missing.
size_t head_size(const char* bytes, size_t size);
// Reads one whole head.
void parse_request(struct request* request, const char* head, size_t size);

#endif
