/* Text for people and for other programs.
 * In: strings of any bytes, numbers. Out: text. Invariant: what goes out is valid UTF-8 and valid JSON.
 * Idea: one place for escapes and separators, so that all forms agree. */
#include "ir/base/text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

uint32_t text_utf8_length(const char *text, size_t left)
{
    const unsigned char *s = (const unsigned char *)text;
    uint32_t n = s[0] < 0x80                   ? 1
                 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2
                 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
                 : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                               : 0;
    if (n == 0 || n > left)
        return 0;
    for (uint32_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    /* overlong forms, surrogates, and what lies beyond U+10FFFF */
    bool wrong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] >= 0xA0) || (s[0] == 0xF0 && s[1] < 0x90) ||
                 (s[0] == 0xF4 && s[1] >= 0x90);
    return wrong ? 0 : n;
}

void text_print_json(FILE *to, const char *s)
{
    size_t left = strlen(s);
    fputc('"', to);
    while (left) {
        uint32_t n = text_utf8_length(s, left);
        unsigned char c = (unsigned char)*s;
        if (n == 0)
            fputs("\\ufffd", to);
        else if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            fprintf(to, "\\u%04x", c);
        else
            fwrite(s, 1, n, to);
        s += n ? n : 1;
        left -= n ? n : 1;
    }
    fputc('"', to);
}

const char *text_thousands(Arena *a, int64_t n)
{
    const char *digits = arena_printf(a, "%" PRId64, n);
    size_t sign = n < 0, len = strlen(digits) - sign;
    char *out = arena_alloc(a, 2 * len + 2), *p = out;
    if (sign)
        *p++ = '-';
    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            *p++ = ',';
        *p++ = digits[sign + i];
    }
    return out;
}

const char *text_bytes(Arena *a, int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double x = (double)bytes;
    int u = 0;
    while (x >= 1024 && u < 6) {
        x /= 1024;
        u++;
    }
    return u == 0 ? arena_printf(a, "%" PRId64 " B", bytes) : arena_printf(a, x < 100 ? "%.1f %s" : "%.0f %s", x, units[u]);
}
