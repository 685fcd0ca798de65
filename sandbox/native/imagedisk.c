/* A file system image through a loop device.
 *
 * May assume the host's authority, and makes system calls only: it runs in the monitor before
 * clone, and in whoever looks at a container from outside.  The device frees itself when the last
 * use of the mount is gone, so that a crash leaves none behind. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "imagedisk.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "sys.h"

#define LOOP_CTL_GET_FREE 0x4C82
#define LOOP_CONFIGURE 0x4C0A
#define LOOP_GET_STATUS64 0x4C05
#define LO_FLAGS_AUTOCLEAR 4
#define MAX_DEVICES 1024 /* that are looked at */
#define MAX_TRIES 64     /* another process may take the free device that we were told of */

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

static void name_of(char name[40], int number)
{
    char digits[24];

    strcpy(name, "/dev/loop");
    strcat(name, decimal(digits, number));
}

/* The device that somebody has set up over the image, or -ENXIO. */
static int find_loop(int image, char name[40])
{
    struct stat info;

    if (fstat(image, &info) < 0)
        return -errno;
    for (int number = 0; number < MAX_DEVICES; number++) {
        cleanup_fd int loop = -1;
        struct loop_info found;

        name_of(name, number);
        loop = open(name, O_RDWR | O_CLOEXEC);
        if (loop >= 0 && ioctl(loop, LOOP_GET_STATUS64, &found) == 0 &&
            found.inode == info.st_ino && found.device == info.st_dev)
            return steal_fd(&loop);
    }
    return -ENXIO;
}

/* A free device, set up over the image; its name in `name`. */
static int open_loop(int image, const char *path, char name[40])
{
    cleanup_fd int control = or_errno(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    int result = -EBUSY;

    if (control < 0)
        return control;
    for (int i = 0; i < MAX_TRIES && result == -EBUSY; i++) {
        cleanup_fd int loop = -1;
        int free_device = ioctl(control, LOOP_CTL_GET_FREE);

        if (free_device < 0)
            return -errno;
        name_of(name, free_device);
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

static int mount_device(const struct imagedisk *disk, const char *device)
{
    cleanup_fd int fs = sys_fsopen(disk->fstype);
    int result;

    if (fs < 0)
        return fs;
    result = sys_fsconfig(fs, FS_SET_STRING, "source", device, 0);
    if (result == 0)
        result = set_options(fs, disk->options);
    if (result == 0)
        result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    return result < 0 ? result : sys_fsmount(fs, 0);
}

int imagedisk_mount(struct imagedisk *disk)
{
    cleanup_fd int image = or_errno(open(disk->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    cleanup_fd int loop = -1;
    struct stat info;
    char name[40];

    disk->call = "open";
    if (image < 0)
        return image;
    if (fstat(image, &info) < 0 || !S_ISREG(info.st_mode))
        return -EINVAL;
    disk->call = "loop";
    loop = find_loop(image, name);
    if (loop == -ENXIO && !disk->is_in_use)
        loop = open_loop(image, disk->path, name);
    if (loop < 0)
        return loop;
    disk->call = "fsmount";
    return mount_device(disk, name);
}
