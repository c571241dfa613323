/*
 * The files that IPVS would have in /proc, read from polluxd; and no module of the kernel's own IPVS.
 */
#define _GNU_SOURCE
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The type of the message that asks for a file: `FILE` in control/src/ipvs/request.rs. */
enum { FILE_REQUEST = 0x7f00 };

/* Longer paths are no file of ours. */
enum { PATH_BYTES_MAX = 255 };

static bool is_file_of_ipvs(const char *path)
{
	static const char *const beginnings[] = { "/proc/net/ip_vs", "/proc/self/net/ip_vs", "/proc/sys/net/ipv4/vs/" };

	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
		if (strncmp(path, beginnings[i], strlen(beginnings[i])) == 0)
			return strlen(path) <= PATH_BYTES_MAX;
	return false;
}

static bool ask_for(int fd, const char *path)
{
	REAL(sendmsg, ssize_t, int, const struct msghdr *, int);
	size_t length = strlen(path);
	struct nlmsghdr header = {
		.nlmsg_len = NLMSG_HDRLEN + length,
		.nlmsg_type = FILE_REQUEST,
		.nlmsg_flags = NLM_F_REQUEST,
	};
	struct iovec parts[] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)path, .iov_len = length },
	};
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

	return real_sendmsg(fd, &message, MSG_NOSIGNAL) >= 0;
}

/* The answer is an error number, 0 with the reading end of a pipe. */
static int take_file(int fd, bool close_on_exec)
{
	REAL(recvmsg, ssize_t, int, struct msghdr *, int);
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} answer;
	struct iovec whole = { .iov_base = &answer, .iov_len = sizeof(answer) };
	struct msghdr message = {
		.msg_iov = &whole,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t received = real_recvmsg(fd, &message, close_on_exec ? MSG_CMSG_CLOEXEC : 0);
	struct cmsghdr *passed = received < 0 ? NULL : CMSG_FIRSTHDR(&message);
	int file = -1;

	if (passed && passed->cmsg_level == SOL_SOCKET && passed->cmsg_type == SCM_RIGHTS &&
	    passed->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&file, CMSG_DATA(passed), sizeof(file));
	if (received < (ssize_t)(sizeof(answer.header) + sizeof(answer.error.error)))
		errno = received < 0 ? errno : ECONNRESET;
	else if (file < 0)
		errno = answer.error.error < 0 ? -answer.error.error : EIO;
	return file;
}

/* Opens a file of IPVS for reading. */
static int open_file(const char *path, bool writes, bool close_on_exec)
{
	REAL(close, int, int);
	if (writes) {
		errno = EACCES;
		return -1;
	}

	int fd = link_open(SOCK_CLOEXEC);

	if (fd < 0)
		return -1;

	int file = ask_for(fd, path) ? take_file(fd, close_on_exec) : -1;
	int error = errno;

	real_close(fd);
	errno = error;
	return file;
}

static int open_with(const char *path, int flags)
{
	return open_file(path, (flags & O_ACCMODE) != O_RDONLY, flags & O_CLOEXEC);
}

static FILE *stream_of(const char *path, const char *mode)
{
	int fd = open_file(path, mode[0] != 'r' || strchr(mode, '+'), strchr(mode, 'e'));

	return fd < 0 ? NULL : fdopen(fd, "r");
}

/* The mode that follows the flags when a file may be made. */
#define MODE_AFTER(flags)                                                                                               \
	({                                                                                                                  \
		mode_t mode = 0;                                                                                                \
		if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                          \
			va_list rest;                                                                                               \
			va_start(rest, flags);                                                                                      \
			mode = va_arg(rest, mode_t);                                                                                \
			va_end(rest);                                                                                               \
		}                                                                                                               \
		mode;                                                                                                           \
	})

EXPORT int open(const char *path, int flags, ...)
{
	REAL(open, int, const char *, int, ...);
	if (is_file_of_ipvs(path))
		return open_with(path, flags);
	return real_open(path, flags, MODE_AFTER(flags));
}

EXPORT int open64(const char *path, int flags, ...)
{
	REAL(open64, int, const char *, int, ...);
	if (is_file_of_ipvs(path))
		return open_with(path, flags);
	return real_open64(path, flags, MODE_AFTER(flags));
}

EXPORT int openat(int folder, const char *path, int flags, ...)
{
	REAL(openat, int, int, const char *, int, ...);
	if (is_file_of_ipvs(path))
		return open_with(path, flags);
	return real_openat(folder, path, flags, MODE_AFTER(flags));
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
	REAL(fopen, FILE *, const char *, const char *);
	return is_file_of_ipvs(path) ? stream_of(path, mode) : real_fopen(path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
	REAL(fopen64, FILE *, const char *, const char *);
	return is_file_of_ipvs(path) ? stream_of(path, mode) : real_fopen64(path, mode);
}

/* `modprobe ip_vs`, which tools try when IPVS does not answer, would load what they must not use. */
static bool loads_ipvs(const char *path, char *const arguments[])
{
	const char *slash = strrchr(path, '/');

	if (strcmp(slash ? slash + 1 : path, "modprobe") != 0)
		return false;
	for (size_t i = 1; arguments[0] && arguments[i]; i++)
		if (strncmp(arguments[i], "ip_vs", 5) == 0)
			return true;
	return false;
}

EXPORT int execv(const char *path, char *const arguments[])
{
	REAL(execv, int, const char *, char *const[]);
	if (loads_ipvs(path, arguments)) {
		errno = ENOENT;
		return -1;
	}
	return real_execv(path, arguments);
}

EXPORT int execve(const char *path, char *const arguments[], char *const environment[])
{
	REAL(execve, int, const char *, char *const[], char *const[]);
	if (loads_ipvs(path, arguments)) {
		errno = ENOENT;
		return -1;
	}
	return real_execve(path, arguments, environment);
}
