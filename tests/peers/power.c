/* A library to be preloaded: it tells, in a file, every change of the files that are watched and every sync of them, so
 * that a test can say what a power cut would have left. It may also make every sync slow. It changes nothing else.
 *
 * POWER_WATCH: part of the path of the files that are watched. POWER_LOG: where it tells. POWER_SYNC_MS: how long a sync
 * takes at least.
 *
 * A record: kind ('w' write, 't' truncate, 's' sync), length of the path (2 bytes), the path, offset (8 bytes), length
 * (4 bytes), and the bytes that were written. Numbers are as the machine has them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS 4096

static char *watched[FDS];
static int log_fd = -1;
static const char *part;
static long sync_ms;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
  real_open = dlsym(RTLD_NEXT, "open64");
  real_close = dlsym(RTLD_NEXT, "close");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  part = getenv("POWER_WATCH");
  const char *ms = getenv("POWER_SYNC_MS"), *path = getenv("POWER_LOG");
  sync_ms = ms ? atol(ms) : 0;
  if (path) log_fd = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Called with the lock held: what is told is in the order in which it happened. */
static void tell(char kind, int fd, uint64_t offset, const void *bytes, uint32_t length) {
  if (log_fd < 0) return;
  uint16_t name = (uint16_t)strlen(watched[fd]);
  struct iovec parts[] = {{&kind, 1},     {&name, 2},   {watched[fd], name},
                          {&offset, 8},   {&length, 4}, {(void *)bytes, kind == 'w' ? length : 0}};
  if (writev(log_fd, parts, 6) < 0) abort();
}

static int is_watched(int fd) { return fd >= 0 && fd < FDS && watched[fd]; }

static int opened(int fd, const char *path, int flags) {
  if (fd < 0 || fd >= FDS || !part || !strstr(path, part)) return fd;
  pthread_mutex_lock(&lock);
  free(watched[fd]);
  watched[fd] = strdup(path);
  if (flags & O_TRUNC) tell('t', fd, 0, 0, 0);
  pthread_mutex_unlock(&lock);
  return fd;
}

int open64(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return opened(real_open(path, flags, mode), path, flags);
}

int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return opened(real_open(path, flags, mode), path, flags);
}

int close(int fd) {
  if (is_watched(fd)) {
    pthread_mutex_lock(&lock);
    free(watched[fd]);
    watched[fd] = 0;
    pthread_mutex_unlock(&lock);
  }
  return real_close(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
  if (!is_watched(fd)) return real_pwrite(fd, bytes, length, offset);
  pthread_mutex_lock(&lock);
  ssize_t done = real_pwrite(fd, bytes, length, offset);
  if (done > 0) tell('w', fd, (uint64_t)offset, bytes, (uint32_t)done);
  pthread_mutex_unlock(&lock);
  return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  return pwrite64(fd, bytes, length, offset);
}

int ftruncate64(int fd, off_t length) {
  if (!is_watched(fd)) return real_ftruncate(fd, length);
  pthread_mutex_lock(&lock);
  int done = real_ftruncate(fd, length);
  if (done == 0) tell('t', fd, (uint64_t)length, 0, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* A real sync is not needed: what would be lost without it is what the test takes away. */
static int synced(int fd, int (*real)(int)) {
  if (!is_watched(fd)) return real(fd);
  if (sync_ms) {
    struct timespec time = {sync_ms / 1000, sync_ms % 1000 * 1000000};
    nanosleep(&time, 0);
  }
  pthread_mutex_lock(&lock);
  if (is_watched(fd)) tell('s', fd, 0, 0, 0);
  pthread_mutex_unlock(&lock);
  return 0;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }
