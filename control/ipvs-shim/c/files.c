/*
 * The files that IPVS would have in /proc, opened at polluxd; and no module of the kernel's own IPVS.
 */
#define _GNU_SOURCE
#include "ask.h"
#include "link.h"
#include "paths.h"
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool ask(int fd, int type, const char *text)
{
	REAL(sendmsg, ssize_t, int, const struct msghdr *, int);
	size_t length = strlen(text);
	struct nlmsghdr header = {
		.nlmsg_len = NLMSG_HDRLEN + length,
		.nlmsg_type = type,
		.nlmsg_flags = NLM_F_REQUEST,
	};
	struct iovec parts[] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)text, .iov_len = length },
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
static int open_to_read(const char *path, bool close_on_exec)
{
	REAL(close, int, int);
	int fd = link_open(SOCK_CLOEXEC);

	if (fd < 0)
		return -1;

	int file = ask(fd, FILE_REQUEST, path) ? take_file(fd, close_on_exec) : -1;
	int error = errno;

	real_close(fd);
	errno = error;
	return file;
}

static int open_with(const char *path, int flags)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return open_to_read(path, flags & O_CLOEXEC);
	case O_WRONLY:
		return setting_open(path, flags & O_CLOEXEC);
	default:
		errno = EACCES;
		return -1;
	}
}

static FILE *stream_of(const char *path, const char *mode)
{
	int access = strchr(mode, '+') ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
	int fd = open_with(path, access | (strchr(mode, 'e') ? O_CLOEXEC : 0));

	return fd < 0 ? NULL : fdopen(fd, access == O_RDONLY ? "r" : "w");
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
	char there[PATH_ROOM];

	if (path_is_file(path))
		return open_with(path, flags);
	return real_open(path_to_look_at(path, there) ? there : path, flags, MODE_AFTER(flags));
}

EXPORT int open64(const char *path, int flags, ...)
{
	REAL(open64, int, const char *, int, ...);
	char there[PATH_ROOM];

	if (path_is_file(path))
		return open_with(path, flags);
	return real_open64(path_to_look_at(path, there) ? there : path, flags, MODE_AFTER(flags));
}

EXPORT int openat(int folder, const char *path, int flags, ...)
{
	REAL(openat, int, int, const char *, int, ...);
	char there[PATH_ROOM];

	if (path_is_file(path))
		return open_with(path, flags);
	if (path_below(folder, path, there))
		return open_with(there, flags);
	return real_openat(folder, path_to_look_at(path, there) ? there : path, flags, MODE_AFTER(flags));
}

EXPORT int openat64(int folder, const char *path, int flags, ...)
{
	REAL(openat64, int, int, const char *, int, ...);
	char there[PATH_ROOM];

	if (path_is_file(path))
		return open_with(path, flags);
	if (path_below(folder, path, there))
		return open_with(there, flags);
	return real_openat64(folder, path_to_look_at(path, there) ? there : path, flags, MODE_AFTER(flags));
}

/* What open and openat are to programs that were compiled to have their arguments checked. */
EXPORT int __open_2(const char *path, int flags)
{
	return open(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
	return open64(path, flags);
}

EXPORT int __openat_2(int folder, const char *path, int flags)
{
	return openat(folder, path, flags);
}

EXPORT int __openat64_2(int folder, const char *path, int flags)
{
	return openat64(folder, path, flags);
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
	REAL(fopen, FILE *, const char *, const char *);
	return path_is_file(path) ? stream_of(path, mode) : real_fopen(path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
	REAL(fopen64, FILE *, const char *, const char *);
	return path_is_file(path) ? stream_of(path, mode) : real_fopen64(path, mode);
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
