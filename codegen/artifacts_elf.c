/* artifacts_elf.c: the constants as an object file, without an assembler in between.
 * In: bytes and a symbol. Out: a relocatable ELF file in the temporary folder.
 * Relies on: nothing but the format. Leaves: one read-only section, aligned to 64, and one hidden global symbol.
 * Idea: 700 MB of weights are written once and read once by the linker.
 *
 *   ELF header | weights | symbol table | names | section names | section headers */
#include "codegen/artifacts_impl.h"

#include <elf.h>
#include <string.h>

enum { S_NULL, S_WEIGHTS, S_SYMTAB, S_STRTAB, S_NAMES, S_STACK, S_COUNT };
static const char section_names[] = "\0.rodata.weights\0.symtab\0.strtab\0.shstrtab\0.note.GNU-stack";
enum { N_WEIGHTS = 1, N_SYMTAB = 17, N_STRTAB = 25, N_NAMES = 33, N_STACK = 43 };   /* where each name starts */

typedef Elf64_Ehdr Head;
_Static_assert(sizeof(Head) == 64, "the weights after the header start on a multiple of 64");
typedef struct { Elf64_Sym none, consts; } Symbols;

static void fill_header(Head *h, int machine, uint64_t sections_at)
{
    memcpy(h->e_ident, ELFMAG, SELFMAG);
    h->e_ident[EI_CLASS] = ELFCLASS64;
    h->e_ident[EI_DATA] = ELFDATA2LSB;
    h->e_ident[EI_VERSION] = EV_CURRENT;
    h->e_type = ET_REL;
    h->e_machine = (Elf64_Half)machine;
    h->e_version = EV_CURRENT;
    h->e_shoff = sections_at;
    h->e_ehsize = sizeof *h;
    h->e_shentsize = sizeof(Elf64_Shdr);
    h->e_shnum = S_COUNT;
    h->e_shstrndx = S_NAMES;
}

bool temp_put_weights(Arena *a, TempDir *t, const Program *p, int machine, const char **path, ArtifactError *e)
{
    size_t size = (size_t)p->model.consts_bytes;
    const char *names = arena_printf(a, "%c%s_consts", '.', p->symbol);
    size_t names_size = strlen(names) + 1;
    char *strings = arena_strdup(a, names);
    strings[0] = '\0';   /* the table starts with the empty name */

    Symbols symbols = {.consts = {.st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), .st_other = STV_HIDDEN,
                                  .st_shndx = S_WEIGHTS, .st_size = size}};
    size_t pad = (64 - size % 64) % 64;
    uint64_t symbols_at = sizeof(Head) + size + pad, strings_at = symbols_at + sizeof symbols, names_at = strings_at + names_size;
    uint64_t end = names_at + sizeof section_names, sections_at = (end + 7) / 8 * 8;
    Elf64_Shdr s[S_COUNT] = {
        [S_WEIGHTS] = {.sh_name = N_WEIGHTS, .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC, .sh_offset = sizeof(Head), .sh_size = size,
                       .sh_addralign = 64},
        [S_SYMTAB] = {.sh_name = N_SYMTAB, .sh_type = SHT_SYMTAB, .sh_offset = symbols_at, .sh_size = sizeof symbols, .sh_link = S_STRTAB,
                      .sh_info = 1, .sh_addralign = 8, .sh_entsize = sizeof(Elf64_Sym)},
        [S_STRTAB] = {.sh_name = N_STRTAB, .sh_type = SHT_STRTAB, .sh_offset = strings_at, .sh_size = names_size, .sh_addralign = 1},
        [S_NAMES] = {.sh_name = N_NAMES, .sh_type = SHT_STRTAB, .sh_offset = names_at, .sh_size = sizeof section_names, .sh_addralign = 1},
        [S_STACK] = {.sh_name = N_STACK, .sh_type = SHT_PROGBITS, .sh_offset = end, .sh_addralign = 1},
    };
    Head head = {0};
    fill_header(&head, machine, sections_at);
    static const char zeros[64];
    const TempPart parts[] = {{&head, sizeof head, NULL}, {p->model.consts, size, p->later}, {zeros, pad, NULL}, {&symbols, sizeof symbols, NULL},
                              {strings, names_size, NULL},
                              {section_names, sizeof section_names, NULL}, {zeros, (size_t)(sections_at - end), NULL}, {s, sizeof s, NULL}};
    return temp_put_parts(a, t, arena_printf(a, "%s_weights.o", p->symbol), parts, (int)ARRAY_LEN(parts), path, e);
}
