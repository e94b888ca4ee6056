/* A TCG plugin for qemu-aarch64 7.2: counts what the guest executes, by kind of instruction, and what misses caches.

   gcc -shared -fPIC -O2 -o count.so count.c
   qemu-aarch64 -plugin ./count.so,out=FILE[,l1=KIB:WAYS,l2=KIB:WAYS[,l3=KIB:WAYS]] ...

   The guest says where to look: a call of getpgid(MARK + n), which no process has, appends one line to FILE:
   n, then every count since the beginning, in the order of the enum below. Counting is done where code is translated: a
   block of instructions adds to each kind what it holds of it, whenever it runs. So counts are exact as long as one
   thread runs and no block is left half-way by a fault. With caches given, every access of memory walks them as well:
   64-byte lines, least recently used goes, written lines are fetched first; no prefetcher and no instruction cache.

   Debian has no package with qemu-plugin.h, so the few functions that are used are declared here, after QEMU's
   documentation of the interface ("QEMU TCG Plugins", docs/devel/tcg-plugins.rst of 7.2, plugin version 1). */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*on_block)(uint64_t id, void *block);
typedef void (*on_memory)(unsigned cpu, uint32_t about, uint64_t address, void *data);
typedef void (*on_call)(uint64_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                        uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, on_block call);
void qemu_plugin_register_vcpu_syscall_cb(uint64_t id, on_call call);
void qemu_plugin_register_vcpu_tb_exec_inline(void *block, int operation, void *counter, uint64_t add);
void qemu_plugin_register_vcpu_mem_cb(void *instruction, on_memory call, int registers, int direction, void *data);
size_t qemu_plugin_tb_n_insns(const void *block);
void *qemu_plugin_tb_get_insn(const void *block, size_t index);
const void *qemu_plugin_insn_data(const void *instruction);
unsigned qemu_plugin_mem_size_shift(uint32_t about);
bool qemu_plugin_mem_is_store(uint32_t about);
enum { ADD_U64 = 0, NO_REGISTERS = 0, READ_AND_WRITE = 3 };

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum { INTEGER, BRANCH, LOAD_STORE, LOAD_STORE_VECTOR, VECTOR, VECTOR_MULTIPLY, OTHER, KINDS,
       LOADED_BYTES = KINDS, STORED_BYTES, MISSED_L1, MISSED_L2, MISSED_L3, COUNTS };
enum { GETPGID = 155, MARK = 1000000000, MARKS = 1000000, LINE_BITS = 6, LEVELS = 3 };

static uint64_t count[COUNTS];
static FILE *out;
static bool marked; /* caches are walked from the first mark on: starting up takes far longer than the work */

/* Arm ARM (DDI 0487), C4.1 "A64 instruction set encoding": bits 28 to 25 are the group. counts.py has the same in
   Python, and a test holds the two together. */
static int kind(uint32_t word)
{
    unsigned group = word >> 25 & 15;
    if ((group & 14) == 8) return INTEGER;                /* 100x: data processing, immediate */
    if ((group & 14) == 10) return BRANCH;                /* 101x: branches, exceptions, system */
    if ((group & 5) == 4) return group & 2 ? LOAD_STORE_VECTOR : LOAD_STORE; /* x1x0; bit 26: vector registers */
    if ((group & 7) == 5) return INTEGER;                 /* x101: data processing, register */
    if ((group & 7) != 7) return OTHER;                   /* reserved, SME, SVE */
    unsigned top = word >> 24 & 255, operation = word >> 11 & 31;
    if (top == 0x1f) return VECTOR_MULTIPLY;              /* scalar fmadd and its like */
    if (word >> 31) return VECTOR;
    unsigned shape = top & 0x1f, unsigned_form = word >> 29 & 1;
    if (shape == 0x0e && word >> 21 & 1 && word >> 10 & 1) { /* three registers of one kind */
        if (operation == 0x19) return unsigned_form ? VECTOR : VECTOR_MULTIPLY;    /* fmla, fmls */
        if (operation == 0x1b) return unsigned_form ? VECTOR_MULTIPLY : VECTOR;    /* fmul, (fmulx) */
        return operation == 0x12 || operation == 0x13 ? VECTOR_MULTIPLY : VECTOR;  /* mla, mls; mul, pmul */
    }
    if (shape == 0x0e && word >> 21 & 1 && !(word >> 10 & 3)) { /* three registers, the result is wider */
        unsigned wide = word >> 12 & 15;
        return wide == 8 || wide == 10 || wide == 12 ? VECTOR_MULTIPLY : VECTOR;   /* smlal, smlsl, smull, and u */
    }
    if (shape == 0x0e && !(word >> 21 & 1) && word >> 10 & 1 && word >> 15 & 1)
        return operation == 0x12 ? VECTOR_MULTIPLY : VECTOR;                       /* sdot, udot */
    if (shape == 0x0f && !(word >> 10 & 1)) return VECTOR_MULTIPLY; /* by an element: all of them multiply */
    return VECTOR;
}

static struct { uint64_t sets, ways, *lines; } cache[LEVELS]; /* a set: its lines + 1, the latest first */

static void on_access(unsigned cpu, uint32_t about, uint64_t address, void *data)
{
    if (!marked) return;
    uint64_t bytes = 1u << qemu_plugin_mem_size_shift(about), line = address >> LINE_BITS;
    uint64_t last = (address + bytes - 1) >> LINE_BITS;
    count[qemu_plugin_mem_is_store(about) ? STORED_BYTES : LOADED_BYTES] += bytes;
    for (; line <= last; line++)
        for (int level = 0; level < LEVELS && cache[level].sets; level++) {
            uint64_t ways = cache[level].ways, *set = cache[level].lines + line % cache[level].sets * ways, way = 0;
            while (way < ways - 1 && set[way] != line + 1) way++;
            bool there = set[way] == line + 1;
            memmove(set + 1, set, way * sizeof *set);
            set[0] = line + 1;
            if (there) break;
            count[MISSED_L1 + level]++;
        }
}

static void on_translation(uint64_t id, void *block)
{
    uint64_t held[KINDS] = {0};
    for (size_t n = 0; n < qemu_plugin_tb_n_insns(block); n++) {
        void *instruction = qemu_plugin_tb_get_insn(block, n);
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
        int of = kind(word);
        held[of]++;
        if (cache[0].sets && (of == LOAD_STORE || of == LOAD_STORE_VECTOR))
            qemu_plugin_register_vcpu_mem_cb(instruction, on_access, NO_REGISTERS, READ_AND_WRITE, NULL);
    }
    for (int of = 0; of < KINDS; of++)
        if (held[of]) qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count[of], held[of]);
}

static void on_system_call(uint64_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                           uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    if (number != GETPGID || a1 < MARK || a1 >= MARK + MARKS) return;
    marked = true;
    fprintf(out, "%" PRIu64, a1 - MARK);
    for (int n = 0; n < COUNTS; n++) fprintf(out, " %" PRIu64, count[n]);
    fputc('\n', out);
    fflush(out);
}

EXPORT int qemu_plugin_install(uint64_t id, const void *about, int argc, char **argv)
{
    for (int n = 0; n < argc; n++) {
        unsigned level, kib, ways;
        if (!strncmp(argv[n], "out=", 4)) out = fopen(argv[n] + 4, "w");
        else if (sscanf(argv[n], "l%u=%u:%u", &level, &kib, &ways) == 3 && level - 1 < LEVELS && kib && ways) {
            cache[level - 1].ways = ways;
            cache[level - 1].sets = ((uint64_t)kib << 10 >> LINE_BITS) / ways;
            cache[level - 1].lines = calloc(cache[level - 1].sets * ways, sizeof(uint64_t));
        } else { fprintf(stderr, "count: cannot read %s\n", argv[n]); return 1; }
    }
    if (!out) { fprintf(stderr, "count: out=FILE is missing, or cannot be written\n"); return 1; }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
    return 0;
}
