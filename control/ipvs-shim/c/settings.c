/*
 * Writing to /proc/sys/net/ipv4/vs/NAME: `echo 1 > FILE`, `sysctl -w`. The descriptor that a program gets is a connection
 * to polluxd on which whatever is written arrives, by write(2) or from within the C library (stdio). What became of it
 * is asked for afterwards, where a program looks for errors: in write, fflush and fclose.
 *
 * A shell opens the file, moves the descriptor to 1 and may then become another program. So a connection is known by a
 * mark that stays with it whatever number it has: the name it is bound to.
 */
#define _GNU_SOURCE
#include "ask.h"
#include "link.h"
#include "reasons.h"
#include "settings.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Behind the NUL with which abstract names begin. */
static const char mark[] = "pollux-setting-";

/* An answer quotes the question and may have a reason with it. */
enum { ANSWER_BYTES_MAX = 2048 };

static bool put_mark(int fd)
{
	REAL(bind, int, int, const struct sockaddr *, socklen_t);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s%d-%lld-%ld-%d", mark, (int)getpid(),
			      (long long)now.tv_sec, now.tv_nsec, fd);

	return real_bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + (socklen_t)length) == 0;
}

bool setting_is(int fd)
{
	REAL(getsockname, int, int, struct sockaddr *, socklen_t *);
	struct sockaddr_un address;
	socklen_t length = sizeof(address);
	int before = errno;
	bool named = real_getsockname(fd, (struct sockaddr *)&address, &length) == 0;

	errno = before;
	return named && address.sun_family == AF_UNIX &&
	       length > offsetof(struct sockaddr_un, sun_path) + sizeof(mark) && address.sun_path[0] == 0 &&
	       memcmp(address.sun_path + 1, mark, sizeof(mark) - 1) == 0;
}

/* Takes an answer. Whether it is an acknowledgement; if not, errno says why. */
static bool take_answer(int fd)
{
	REAL(recv, ssize_t, int, void *, size_t, int);
	char answer[ANSWER_BYTES_MAX];
	int error;
	ssize_t received = real_recv(fd, answer, sizeof(answer), 0);

	if (received < (ssize_t)(NLMSG_HDRLEN + sizeof(error))) {
		errno = received < 0 ? errno : ECONNRESET;
		return false;
	}
	memcpy(&error, answer + NLMSG_HDRLEN, sizeof(error));
	print_reason(answer, (size_t)received);
	errno = -error;
	return error == 0;
}

/* Whether all that was written so far was taken. */
static bool was_taken(int fd)
{
	return ask(fd, VERDICT, "") && take_answer(fd);
}

int setting_open(const char *path, bool close_on_exec)
{
	REAL(close, int, int);
	int fd = link_open(close_on_exec ? SOCK_CLOEXEC : 0);

	if (fd < 0)
		return -1;
	if (ask(fd, FILE_TO_WRITE, path) && take_answer(fd) && put_mark(fd))
		return fd;

	int error = errno;

	real_close(fd);
	errno = error;
	return -1;
}

EXPORT ssize_t write(int fd, const void *bytes, size_t length)
{
	REAL(write, ssize_t, int, const void *, size_t);
	REAL(send, ssize_t, int, const void *, size_t, int);
	if (!setting_is(fd))
		return real_write(fd, bytes, length);
	if (length == 0)
		return 0;

	ssize_t sent = real_send(fd, bytes, length, MSG_NOSIGNAL);

	return sent >= 0 && !was_taken(fd) ? -1 : sent;
}

EXPORT int fflush(FILE *stream)
{
	REAL(fflush, int, FILE *);
	int result = real_fflush(stream);

	if (result != 0 || !stream || !setting_is(fileno(stream)) || was_taken(fileno(stream)))
		return result;
	stream->_flags |= _IO_ERR_SEEN;
	return EOF;
}

EXPORT int fclose(FILE *stream)
{
	REAL(fclose, int, FILE *);
	int error = 0;

	if (stream && setting_is(fileno(stream)) && fflush(stream) != 0)
		error = errno;

	int result = real_fclose(stream);

	if (error == 0)
		return result;
	errno = error;
	return EOF;
}
