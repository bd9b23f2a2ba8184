/* Asks a graph one case after the other through ONNX Runtime's C API, on an emulated phone's CPU.
 *
 * arm64 MODEL CASES: a text file of lines `in NAME TYPE FILE RANK SIDES...`, `out NAME FILE` and
 * `run`, which asks what was given since the last. Values lie in files as they lie in memory; TYPE
 * is an ONNXTensorElementDataType.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "onnxruntime_c_api.h"

#define MOST 64

/* Android's compilers keep the guard of the stack in a slot behind the thread pointer, where glibc
 * has the first variables of the program's own: these, which nobody writes. */
__thread char guard[512] __attribute__((aligned(16)));

static const OrtApi *api;

static void stop(const char *said, const char *what) {
    fprintf(stderr, "%s %s\n", said, what);
    fflush(NULL);
    _exit(1);
}

static void check(OrtStatus *status) {
    if (status) stop("ONNX Runtime:", api->GetErrorMessage(status));
}

static void *held(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) stop("cannot read", path);
    *size = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*size + 1);
    if (!data || fread(data, 1, *size, file) != *size) stop("cannot read", path);
    fclose(file);
    return data;
}

static void keep(const char *path, const OrtValue *value) {
    const void *data;
    size_t size;
    check(api->GetTensorData(value, &data));
    check(api->GetTensorSizeInBytes(value, &size));
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file)) stop("cannot write", path);
}

static OrtSession *opened(const char *model) {
    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtSession *session;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "arm64", &environment));
    check(api->DisableTelemetryEvents(environment));
    check(api->CreateSessionOptions(&options));
    check(api->SetIntraOpNumThreads(options, 1));
    check(api->CreateSession(environment, model, options, &session));
    return session;
}

static OrtValue *given(FILE *cases, OrtMemoryInfo *memory) {
    char path[1024];
    int type, rank;
    long long side;
    int64_t shape[8];
    size_t size;
    OrtValue *value;
    if (fscanf(cases, "%d %1023s %d", &type, path, &rank) != 3 || rank > 8) stop("no input", path);
    for (int i = 0; i < rank; i++) {
        if (fscanf(cases, "%lld", &side) != 1) stop("no shape", path);
        shape[i] = side;
    }
    void *data = held(path, &size);
    check(api->CreateTensorWithDataAsOrtValue(memory, data, size, shape, rank, type, &value));
    return value;
}

int main(int count, char **words) {
    guard[0] = 0;
    if (count != 3) stop("usage:", "arm64 MODEL CASES");
    void *library = dlopen("libonnxruntime.so", RTLD_NOW);
    if (!library) stop("no library:", dlerror());
    const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
    api = base()->GetApi(ORT_API_VERSION);
    OrtSession *session = opened(words[1]);
    OrtMemoryInfo *memory;
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));

    FILE *cases = fopen(words[2], "r");
    if (!cases) stop("cannot read", words[2]);
    char word[8], *ins[MOST], *outs[MOST], paths[MOST][1024];
    OrtValue *values[MOST], *answers[MOST];
    int taken = 0, wanted = 0;
    while (fscanf(cases, "%7s", word) == 1) {
        char name[256];
        if (strcmp(word, "run") && (fscanf(cases, "%255s", name) != 1 || taken == MOST || wanted == MOST))
            stop("too much, or no name behind", word);
        if (!strcmp(word, "in")) {
            ins[taken] = strdup(name);
            values[taken++] = given(cases, memory);
        } else if (!strcmp(word, "out")) {
            if (fscanf(cases, "%1023s", paths[wanted]) != 1) stop("no file for", name);
            answers[wanted] = NULL;
            outs[wanted++] = strdup(name);
        } else if (!strcmp(word, "run")) {
            check(api->Run(session, NULL, (const char *const *)ins, (const OrtValue *const *)values,
                           taken, (const char *const *)outs, wanted, answers));
            for (int i = 0; i < wanted; i++) keep(paths[i], answers[i]);
            taken = wanted = 0;
        } else {
            stop("unknown word", word);
        }
    }
    /* What is left in the library's threads ends with the process, not by its exit handlers. */
    fflush(NULL);
    _exit(0);
}
