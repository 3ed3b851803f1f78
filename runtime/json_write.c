/* JSON strings and numbers.
 * In: C strings and doubles. Out: text that every JSON reader takes.
 * Relies on nothing. Idea: file names are bytes, JSON is UTF-8, so bad sequences are replaced one byte at a time. */
#include "runtime/json_write.h"
#include <math.h>
#include <stdlib.h>

/* Length of the UTF-8 sequence at s, or 0 when it is none. */
static int utf8_length(const unsigned char *s)
{
    int n = s[0] < 0x80                   ? 1
            : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
            : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
            : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                          : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void json_put_string(FILE *to, const char *s)
{
    if (!s) {
        fputs("null", to);
        return;
    }
    putc('"', to);
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        int n = utf8_length(p);
        if (n == 0)
            fputs("\\ufffd", to);
        else if (*p == '"' || *p == '\\')
            fprintf(to, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(to, "\\u%04x", *p);
        else
            fwrite(p, 1, (size_t)n, to);
        p += n ? n : 1;
    }
    putc('"', to);
}

void json_put_number(FILE *to, double x)
{
    char text[40];
    if (!isfinite(x)) {
        fputs("null", to);
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    fputs(text, to);
}
