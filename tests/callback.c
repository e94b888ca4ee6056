/* The audio callback alone: linked with the object code that numba made of it, and nothing of Python.

   usage: callback DESK BLOCKS FRAMES OUT
   DESK is a file with a desk's memory; OUT takes the sound of all blocks. Whatever the callback could reach of Python or
   of numba's runtime is replaced by a call of abort(), and allocations during the blocks are counted and reported. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int CALLBACK(const void *in, void *out, unsigned long frames, const void *time, unsigned long flags, void *desk);

#define NEVER(name) void name(void) { fputs(#name " was called\n", stderr); abort(); }
NEVER(NRT_Free)
NEVER(NRT_MemInfo_call_dtor)
NEVER(NRT_MemInfo_alloc_safe_aligned)
NEVER(NRT_Allocate)
NEVER(PyBytes_FromStringAndSize)
NEVER(PyErr_Clear)
NEVER(PyErr_SetNone)
NEVER(PyErr_SetString)
NEVER(PyErr_WriteUnraisable)
NEVER(PyErr_Format)
NEVER(PyUnicode_FromString)
NEVER(Py_DecRef)
NEVER(numba_do_raise)
NEVER(numba_gil_ensure)
NEVER(numba_gil_release)
NEVER(numba_runtime_build_excinfo_struct)
NEVER(numba_unpickle)
void *PyExc_RuntimeError, *PyExc_StopIteration, *PyExc_SystemError;

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static long allocations;
void *malloc(size_t size) { allocations++; return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { allocations++; return __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { allocations++; return __libc_realloc(old, size); }

int main(int count, char **words)
{
    if (count != 5) return 2;
    FILE *file = fopen(words[1], "rb");
    if (!file) return 3;
    fseek(file, 0, SEEK_END);
    size_t size = ftell(file);
    rewind(file);
    char *desk = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    if (fread(desk, 1, size, file) != size) return 4;
    fclose(file);
    long blocks = atol(words[2]), frames = atol(words[3]);
    float *out = calloc(2 * blocks * frames, sizeof *out);
    long before = allocations;
    for (long block = 0; block < blocks; block++)
        if (CALLBACK(NULL, out + 2 * block * frames, frames, NULL, 0, desk)) return 5;
    long during = allocations - before;
    file = fopen(words[4], "wb");
    fwrite(out, sizeof *out, 2 * blocks * frames, file);
    fclose(file);
    printf("%ld allocations\n", during);
    return 0;
}
