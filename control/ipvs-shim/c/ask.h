/* Questions to polluxd about files: `FILE`, `FILE_TO_WRITE` and `VERDICT` in control/src/ipvs/request.rs. */
#ifndef POLLUX_IPVS_ASK_H
#define POLLUX_IPVS_ASK_H

#include <stdbool.h>

enum { FILE_REQUEST = 0x7f00, FILE_TO_WRITE = 0x7f01, VERDICT = 0x7f02 };

/* Longer paths are no file of ours. */
enum { PATH_BYTES_MAX = 255 };

/* Sends a message of this type with this text. False with errno set. */
bool ask(int fd, int type, const char *text);

#endif
