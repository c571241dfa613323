/* Which paths are files and folders of IPVS in /proc. */
#ifndef POLLUX_IPVS_PATHS_H
#define POLLUX_IPVS_PATHS_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the path is that of a file that IPVS has in /proc. */
bool path_is_file(const char *path);

/* Room for any path that path_below writes. */
enum { PATH_ROOM = 512 };

/*
 * Where a file or folder of IPVS can be looked at without being opened: empty files in polluxd's run directory. False for
 * any other path.
 */
bool path_to_look_at(const char *path, char to[PATH_ROOM]);

/*
 * The full path in /proc of a name in a folder that was opened, if that folder is polluxd's stand-in for one of IPVS.
 * False for any other.
 */
bool path_below(int folder, const char *name, char to[PATH_ROOM]);

#endif
