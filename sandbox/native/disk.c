/* A file system image as the writable layer.
 *
 * Runs in the monitor before clone, with the host's authority. */
#include "init.h"

#include <sys/stat.h>

#include "imagedisk.h"

static int make_folder(int disk, const char *name, mode_t mode)
{
    struct stat info;

    if (mkdirat(disk, name, mode) == 0)
        return fchmodat(disk, name, mode, 0) < 0 ? -errno : 0;
    if (errno != EEXIST)
        return -errno;
    if (fstatat(disk, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return S_ISDIR(info.st_mode) ? 0 : -ENOTDIR;
}

/* The image's root, mounted and attached nowhere, with folders "upper" and "work" in it. */
int disk_mount(const struct settings *settings, struct error_record *error)
{
    struct imagedisk image = {
        .path = settings->disk_path,
        .fstype = settings->disk_fstype,
        .options = settings->disk_options,
    };
    cleanup_fd int disk = imagedisk_mount(&image);
    int result;

    if (disk < 0)
        return fail(error, NULL, -disk, image.call, settings->disk_path);
    result = make_folder(disk, "upper", 0755);
    if (result == 0)
        result = make_folder(disk, "work", 0700);
    if (result < 0)
        return fail(error, NULL, -result, "mkdirat", settings->disk_path);
    return steal_fd(&disk);
}
