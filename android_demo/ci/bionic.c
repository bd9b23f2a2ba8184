/* What bionic has and glibc lacks, or has otherwise: only what ONNX Runtime's library imports. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- Android's log and properties ------------------------------------------------------------ */

int __android_log_write(int level, const char *tag, const char *text) {
    return fprintf(stderr, "[%d %s] %s\n", level, tag ? tag : "", text ? text : "");
}
int __android_log_vprint(int level, const char *tag, const char *format, va_list values) {
    fprintf(stderr, "[%d %s] ", level, tag ? tag : "");
    vfprintf(stderr, format, values);
    return fputc('\n', stderr) == '\n';
}
int __android_log_print(int level, const char *tag, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = __android_log_vprint(level, tag, format, values);
    va_end(values);
    return written;
}
void android_set_abort_message(const char *text) { fprintf(stderr, "[abort] %s\n", text); }
int __system_property_get(const char *name, char *value) {
    (void)name;
    *value = 0;
    return 0;
}

/* --- names that only bionic has --------------------------------------------------------------- */

int *__errno(void) { return __errno_location(); }
char __sF[3 * 256]; /* stdin, stdout and stderr lie in one array there */
size_t __strlen_chk(const char *text, size_t size) {
    (void)size;
    return strlen(text);
}
char *__strchr_chk(const char *text, int c, size_t size) {
    (void)size;
    return strchr(text, c);
}
void __FD_SET_chk(int fd, fd_set *set, size_t size) {
    (void)size;
    FD_SET(fd, set);
}
int __FD_ISSET_chk(int fd, const fd_set *set, size_t size) {
    (void)size;
    return FD_ISSET(fd, (fd_set *)set) != 0;
}
char *__gnu_strerror_r(int number, char *text, size_t size) { return strerror_r(number, text, size); }

/* --- names that both have, with another interface --------------------------------------------- */

int b_strerr_r(int number, char *text, size_t size) {
    extern int __xpg_strerror_r(int, char *, size_t);
    return __xpg_strerror_r(number, text, size);
}
int b_sgfillst(unsigned long *set) {
    *set = ~0UL;
    return 0;
}
int b_pthr_sigmask_(int how, const unsigned long *set, unsigned long *old) {
    return syscall(SYS_rt_sigprocmask, how, set, old, 8) ? errno : 0;
}
long b_sconf(int name) {
    switch (name) { /* bionic's bits/sysconf.h */
    case 6: return sysconf(_SC_CLK_TCK);
    case 39:
    case 40: return sysconf(_SC_PAGESIZE);
    case 96: return sysconf(_SC_NPROCESSORS_CONF);
    case 97: return sysconf(_SC_NPROCESSORS_ONLN);
    case 98: return sysconf(_SC_PHYS_PAGES);
    case 99: return sysconf(_SC_AVPHYS_PAGES);
    }
    /* the rest are sizes of caches, which most phones do not tell either */
    return -1;
}
int b_fflu(FILE *file) {
    int standard = (char *)file >= __sF && (char *)file < __sF + sizeof __sF;
    return fflush(standard ? NULL : file);
}

/* Under an emulator the text about the processor is a file of the tests. */
static const char *placed(const char *path) {
    const char *text = getenv("EDGETFM_CPUINFO");
    return text && !strcmp(path, "/proc/cpuinfo") ? text : path;
}
int b_op(const char *path, int flags, int mode) { return open(placed(path), flags, mode); }
FILE *b_fop(const char *path, const char *mode) { return fopen(placed(path), mode); }
