/* A file system image as the writable layer, through a loop device.
 *
 * Runs in the monitor before clone, with the host's authority.  The device frees itself when the
 * last use of the mount is gone, so that a crash leaves none behind. */
#include "init.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define LOOP_CTL_GET_FREE 0x4C82
#define LOOP_CONFIGURE 0x4C0A
#define LO_FLAGS_AUTOCLEAR 4
#define MAX_TRIES 64 /* another process may take the free device that we were told of */

struct loop_info {
    uint64_t device, inode, rdevice, offset, size_limit;
    uint32_t number, encrypt_type, encrypt_key_size, flags;
    uint8_t file_name[64], crypt_name[64], encrypt_key[32];
    uint64_t init[2];
};

struct loop_setup {
    uint32_t fd;
    uint32_t block_size;
    struct loop_info info;
    uint64_t reserved[8];
};

static int configure(int loop, int image, const char *path)
{
    struct loop_setup setup = {.fd = (uint32_t)image, .info.flags = LO_FLAGS_AUTOCLEAR};
    size_t size = strnlen(path, sizeof setup.info.file_name - 1);

    memcpy(setup.info.file_name, path, size);
    return ioctl(loop, LOOP_CONFIGURE, &setup) < 0 ? -errno : 0;
}

/* The device, set up over the image; its name in `name`. */
static int open_loop(int image, const char *path, char name[40])
{
    cleanup_fd int control = or_errno(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    char number[24];
    int result = -EBUSY;

    if (control < 0)
        return control;
    for (int i = 0; i < MAX_TRIES && result == -EBUSY; i++) {
        cleanup_fd int loop = -1;
        int free_device = ioctl(control, LOOP_CTL_GET_FREE);

        if (free_device < 0)
            return -errno;
        strcpy(name, "/dev/loop");
        strcat(name, decimal(number, free_device));
        loop = or_errno(open(name, O_RDWR | O_CLOEXEC));
        if (loop < 0)
            return loop;
        result = configure(loop, image, path);
        if (result == 0)
            return steal_fd(&loop);
    }
    return result;
}

static int set_options(int fs, const char *options)
{
    char text[1024], *option, *rest;
    int result = 0;

    if (strlen(options) >= sizeof text)
        return -E2BIG;
    strcpy(text, options);
    for (option = strtok_r(text, ",", &rest); option != NULL && result == 0;
         option = strtok_r(NULL, ",", &rest)) {
        char *value = strchr(option, '=');

        if (value == NULL) {
            result = sys_fsconfig(fs, FS_SET_FLAG, option, NULL, 0);
        } else {
            *value = 0;
            result = sys_fsconfig(fs, FS_SET_STRING, option, value + 1, 0);
        }
    }
    return result;
}

static int mount_device(const struct settings *settings, const char *device)
{
    cleanup_fd int fs = sys_fsopen(settings->disk_fstype);
    int result;

    if (fs < 0)
        return fs;
    result = sys_fsconfig(fs, FS_SET_STRING, "source", device, 0);
    if (result == 0)
        result = set_options(fs, settings->disk_options);
    if (result == 0)
        result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    return result < 0 ? result : sys_fsmount(fs, 0);
}

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
    cleanup_fd int image =
        or_errno(open(settings->disk_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    cleanup_fd int loop = -1, disk = -1;
    struct stat info;
    char name[40];
    int result;

    if (image < 0)
        return fail(error, NULL, -image, "open", settings->disk_path);
    if (fstat(image, &info) < 0 || !S_ISREG(info.st_mode))
        return fail(error, NULL, EINVAL, "open", settings->disk_path);
    loop = open_loop(image, settings->disk_path, name);
    if (loop < 0)
        return fail(error, NULL, -loop, "loop", settings->disk_path);
    disk = mount_device(settings, name);
    if (disk < 0)
        return fail(error, NULL, -disk, "fsmount", settings->disk_path);
    result = make_folder(disk, "upper", 0755);
    if (result == 0)
        result = make_folder(disk, "work", 0700);
    if (result < 0)
        return fail(error, NULL, -result, "mkdirat", settings->disk_path);
    return steal_fd(&disk);
}
