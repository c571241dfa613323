/*
 * Looking at IPVS's files in /proc without opening them: `ls /proc/sys/net/ipv4/vs`, `test -e /proc/net/ip_vs`, and
 * sysctl(8), which does so before it opens one. polluxd keeps empty files of their names in its run directory.
 */
#define _GNU_SOURCE
#include "paths.h"
#include "ask.h"
#include "link.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char settings_folder[] = "/proc/sys/net/ipv4/vs";
/* In the folder of POLLUX_IPVS_SOCKET: `RunDirectory::ipvs_files`. */
static const char stand_in[] = "/ipvs.proc";

static bool begins_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

bool path_is_file(const char *path)
{
	bool is_ours = begins_with(path, "/proc/net/ip_vs") || begins_with(path, "/proc/self/net/ip_vs") ||
		       (begins_with(path, settings_folder) && path[sizeof(settings_folder) - 1] == '/' &&
			path[sizeof(settings_folder)] != 0);

	return is_ours && strlen(path) <= PATH_BYTES_MAX;
}

static bool is_below_settings(const char *path)
{
	return begins_with(path, settings_folder);
}

static bool is_settings_folder(const char *path)
{
	const char *rest = path + sizeof(settings_folder) - 1;

	return begins_with(path, settings_folder) && rest[strspn(rest, "/")] == 0;
}

/* The folder in which polluxd's stand-ins are. */
static bool stand_in_folder(char to[PATH_ROOM])
{
	const char *socket = getenv("POLLUX_IPVS_SOCKET");
	const char *slash = socket ? strrchr(socket, '/') : NULL;
	int length = slash ? snprintf(to, PATH_ROOM, "%.*s%s", (int)(slash - socket), socket, stand_in) : -1;

	return length > 0 && length < PATH_ROOM;
}

bool path_to_look_at(const char *path, char to[PATH_ROOM])
{
	static const char self[] = "/proc/self/";

	if (!path || (!path_is_file(path) && !is_settings_folder(path)) || !stand_in_folder(to))
		return false;

	size_t length = strlen(to);
	const char *below = begins_with(path, self) ? path + sizeof(self) - 2 : path + sizeof("/proc") - 1;
	int more = snprintf(to + length, PATH_ROOM - length, "%s", below);

	return more >= 0 && (size_t)more < PATH_ROOM - length;
}

bool path_below(int folder, const char *name, char to[PATH_ROOM])
{
	char link[64], opened[PATH_ROOM], ours[PATH_ROOM];

	if (folder < 0 || name[0] == '/' || !path_to_look_at(settings_folder, ours))
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", folder);

	ssize_t length = readlink(link, opened, sizeof(opened) - 1);

	if (length < 0)
		return false;
	opened[length] = 0;

	int written = snprintf(to, PATH_ROOM, "%s/%s", settings_folder, name);

	return strcmp(opened, ours) == 0 && written > 0 && written < PATH_ROOM && path_is_file(to);
}

/* A function of the C library that looks at a path: the same at polluxd's stand-in, if it is a path of ours. */
#define LOOKS(name, result, rest_declared, rest, ...)                                                                   \
	EXPORT result name(const char *path, __VA_ARGS__)                                                                   \
	{                                                                                                                   \
		REAL(name, result, const char *, rest_declared);                                                                \
		char there[PATH_ROOM];                                                                                          \
		return real_##name(path_to_look_at(path, there) ? there : path, rest);                                          \
	}

LOOKS(stat, int, struct stat *, found, struct stat *found)
LOOKS(stat64, int, struct stat64 *, found, struct stat64 *found)
LOOKS(lstat, int, struct stat *, found, struct stat *found)
LOOKS(lstat64, int, struct stat64 *, found, struct stat64 *found)
LOOKS(access, int, int, mode, int mode)
LOOKS(euidaccess, int, int, mode, int mode)
LOOKS(eaccess, int, int, mode, int mode)

/*
 * A folder of ours that is being read: by name, `.` and `..` first, as /proc gives them. sysctl(8) passes over the first two
 * whatever they are. Programs read one at a time; what is more comes in the order of the file system.
 */
static struct {
	DIR *folder;
	struct dirent **names;
	int count, next;
} reading;

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

EXPORT DIR *opendir(const char *path)
{
	REAL(opendir, DIR *, const char *);
	char there[PATH_ROOM];

	if (!path_to_look_at(path, there))
		return real_opendir(path);

	DIR *folder = real_opendir(there);

	if (folder && !reading.folder) {
		reading.count = scandir(there, &reading.names, NULL, by_name);
		reading.next = 0;
		reading.folder = reading.count < 0 ? NULL : folder;
	}
	return folder;
}

EXPORT struct dirent *readdir(DIR *folder)
{
	REAL(readdir, struct dirent *, DIR *);
	if (folder != reading.folder)
		return real_readdir(folder);
	return reading.next < reading.count ? reading.names[reading.next++] : NULL;
}

EXPORT struct dirent64 *readdir64(DIR *folder)
{
	REAL(readdir64, struct dirent64 *, DIR *);
	_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64), "one form of a name");
	if (folder != reading.folder)
		return real_readdir64(folder);
	return (struct dirent64 *)readdir(folder);
}

EXPORT int closedir(DIR *folder)
{
	REAL(closedir, int, DIR *);
	if (folder == reading.folder) {
		for (int i = 0; i < reading.count; i++)
			free(reading.names[i]);
		free(reading.names);
		reading.folder = NULL;
	}
	return real_closedir(folder);
}

static void close_folder(void *folder)
{
	closedir(folder);
}

static struct dirent *read_folder(void *folder)
{
	return readdir(folder);
}

static void *open_folder(const char *path)
{
	return opendir(path);
}

static int look_at(const char *path, struct stat *found)
{
	return stat(path, found);
}

static int look_at_link(const char *path, struct stat *found)
{
	return lstat(path, found);
}

EXPORT int fstatat(int folder, const char *path, struct stat *found, int flags)
{
	REAL(fstatat, int, int, const char *, struct stat *, int);
	char there[PATH_ROOM];

	return real_fstatat(folder, path_to_look_at(path, there) ? there : path, found, flags);
}

EXPORT int fstatat64(int folder, const char *path, struct stat64 *found, int flags)
{
	REAL(fstatat64, int, int, const char *, struct stat64 *, int);
	char there[PATH_ROOM];

	return real_fstatat64(folder, path_to_look_at(path, there) ? there : path, found, flags);
}

EXPORT int statx(int folder, const char *path, int flags, unsigned int mask, struct statx *found)
{
	REAL(statx, int, int, const char *, int, unsigned int, struct statx *);
	char there[PATH_ROOM];

	return real_statx(folder, path_to_look_at(path, there) ? there : path, flags, mask, found);
}

EXPORT int faccessat(int folder, const char *path, int mode, int flags)
{
	REAL(faccessat, int, int, const char *, int, int);
	char there[PATH_ROOM];

	return real_faccessat(folder, path_to_look_at(path, there) ? there : path, mode, flags);
}

/* The C library looks at paths from within, past the functions above: sysctl(8) expands its arguments so. */
EXPORT int glob(const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *found)
{
	REAL(glob, int, const char *, int, int (*)(const char *, int), glob_t *);
	if (!is_below_settings(pattern) || (flags & GLOB_ALTDIRFUNC))
		return real_glob(pattern, flags, on_error, found);
	found->gl_closedir = close_folder;
	found->gl_readdir = read_folder;
	found->gl_opendir = open_folder;
	found->gl_lstat = look_at_link;
	found->gl_stat = look_at;
	return real_glob(pattern, flags | GLOB_ALTDIRFUNC, on_error, found);
}

/* Such a path is what it is: nothing of ours is a link. sysctl(8) asks before it opens a file. */
EXPORT char *realpath(const char *path, char *to)
{
	REAL(realpath, char *, const char *, char *);
	REAL(access, int, const char *, int);
	char there[PATH_ROOM];

	if (!path_to_look_at(path, there))
		return real_realpath(path, to);
	if (real_access(there, F_OK) != 0)
		return NULL;
	return to ? strcpy(to, path) : strdup(path);
}

/* The same to programs that were compiled to have their room checked. */
EXPORT char *__realpath_chk(const char *path, char *to, size_t room)
{
	REAL(__realpath_chk, char *, const char *, char *, size_t);
	char there[PATH_ROOM];

	return path_to_look_at(path, there) && room > PATH_ROOM ? realpath(path, to) :
								  real___realpath_chk(path, to, room);
}

/* From within the folder, names without a path would be those of empty files. */
EXPORT int chdir(const char *path)
{
	REAL(chdir, int, const char *);
	char there[PATH_ROOM];

	if (path_to_look_at(path, there)) {
		errno = EACCES;
		return -1;
	}
	return real_chdir(path);
}
