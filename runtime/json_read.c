/* The strict JSON reader.
 * In: text of known length, not NUL-terminated. Out: the values asked for, in order.
 * Relies on the caller knowing what to expect next; refuses what RFC 8259 refuses.
 * Idea: a recursive-descent cursor; nesting is bounded so that hostile text cannot exhaust the stack. */
#include "runtime/json_read.h"
#include <stdlib.h>
#include <string.h>

static void skip_space(Json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r'))
        j->p++;
}

bool json_peek(Json *j, char c)
{
    skip_space(j);
    return j->p < j->end && *j->p == c;
}

bool json_take(Json *j, char c)
{
    bool there = json_peek(j, c);
    j->p += there;
    return there;
}

bool json_end(Json *j)
{
    skip_space(j);
    return j->p == j->end;
}

static bool hex4(Json *j, uint32_t *out)
{
    if (j->end - j->p < 4)
        return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = *j->p++;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

static bool unicode_escape(Json *j, char **to)
{
    uint32_t u, low;
    if (!hex4(j, &u) || u == 0 || (u >= 0xdc00 && u < 0xe000))
        return false;
    if (u >= 0xd800 && u < 0xdc00) {
        if (j->end - j->p < 6 || *j->p++ != '\\' || *j->p++ != 'u' || !hex4(j, &low) || low < 0xdc00 || low >= 0xe000)
            return false;
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    }
    char *o = *to;
    if (u < 0x80) {
        *o++ = (char)u;
    } else if (u < 0x800) {
        *o++ = (char)(0xc0 | u >> 6);
        *o++ = (char)(0x80 | (u & 63));
    } else if (u < 0x10000) {
        *o++ = (char)(0xe0 | u >> 12);
        *o++ = (char)(0x80 | (u >> 6 & 63));
        *o++ = (char)(0x80 | (u & 63));
    } else {
        *o++ = (char)(0xf0 | u >> 18);
        *o++ = (char)(0x80 | (u >> 12 & 63));
        *o++ = (char)(0x80 | (u >> 6 & 63));
        *o++ = (char)(0x80 | (u & 63));
    }
    *to = o;
    return true;
}

static bool escape(Json *j, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (j->p >= j->end)
        return false;
    char c = *j->p++;
    if (c == 'u')
        return unicode_escape(j, to);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return false;
    *(*to)++ = into[at - from];
    return true;
}

bool json_string(Json *j, char **out)
{
    *out = NULL;
    if (!json_take(j, '"'))
        return false;
    const char *close = j->p;
    while (close < j->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= j->end)
        return false;
    /* No escape is shorter than what it stands for. */
    char *s = malloc((size_t)(close - j->p) + 1), *to = s;
    if (!s)
        return false;
    bool ok = true;
    while (ok && *j->p != '"') {
        if (*j->p == '\\') {
            j->p++;
            ok = escape(j, &to);
        } else {
            ok = (unsigned char)*j->p >= 0x20;
            *to++ = *j->p++;
        }
    }
    *to = '\0';
    if (!ok) {
        free(s);
        return false;
    }
    j->p++;
    *out = s;
    return true;
}

bool json_uint(Json *j, uint64_t *out)
{
    skip_space(j);
    const char *start = j->p;
    uint64_t v = 0;
    while (j->p < j->end && *j->p >= '0' && *j->p <= '9') {
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*j->p - '0'), &v))
            return false;
        j->p++;
    }
    *out = v;
    bool leading_zero = j->p - start > 1 && *start == '0';
    return j->p > start && !leading_zero && (j->p == j->end || !strchr(".eE", *j->p) || !*j->p);
}

static bool digits(Json *j)
{
    const char *start = j->p;
    while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
        j->p++;
    return j->p > start;
}

bool json_number(Json *j, double *out)
{
    skip_space(j);
    const char *start = j->p;
    if (j->p < j->end && *j->p == '-')
        j->p++;
    const char *first = j->p;
    if (!digits(j) || (j->p - first > 1 && *first == '0'))
        return false;
    if (j->p < j->end && *j->p == '.' && (j->p++, !digits(j)))
        return false;
    if (j->p < j->end && (*j->p == 'e' || *j->p == 'E')) {
        j->p++;
        if (j->p < j->end && (*j->p == '+' || *j->p == '-'))
            j->p++;
        if (!digits(j))
            return false;
    }
    char text[64];
    size_t n = (size_t)(j->p - start);
    if (n >= sizeof text)
        return false;
    memcpy(text, start, n);
    text[n] = '\0';
    *out = strtod(text, NULL);
    return true;
}

static bool take_literal(Json *j, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(j->end - j->p) < n || memcmp(j->p, word, n) != 0)
        return false;
    j->p += n;
    return true;
}

static bool skip_value(Json *j, int depth)
{
    if (depth > 64)
        return false;
    char *s;
    if (json_peek(j, '"')) {
        bool ok = json_string(j, &s);
        free(s);
        return ok;
    }
    bool object = json_peek(j, '{');
    if (object || json_peek(j, '[')) {
        char close = object ? '}' : ']';
        j->p++;
        if (json_take(j, close))
            return true;
        do {
            if (object) {
                bool ok = json_string(j, &s);
                free(s);
                if (!ok || !json_take(j, ':'))
                    return false;
            }
            if (!skip_value(j, depth + 1))
                return false;
        } while (json_take(j, ','));
        return json_take(j, close);
    }
    double v;
    return take_literal(j, "true") || take_literal(j, "false") || take_literal(j, "null") || json_number(j, &v);
}

bool json_skip(Json *j) { return skip_value(j, 0); }
