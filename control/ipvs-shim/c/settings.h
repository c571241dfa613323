/* Files of settings that are written to. */
#ifndef POLLUX_IPVS_SETTINGS_H
#define POLLUX_IPVS_SETTINGS_H

#include <stdbool.h>

/* Opens the file of a setting for writing. -1 with errno set. */
int setting_open(const char *path, bool close_on_exec);

/* Whether a descriptor came from setting_open, in this program or the one before it. Leaves errno alone. */
bool setting_is(int fd);

#endif
