/* Random changes of .cnn files, through the command itself: each changed text goes to `cnnc check` or `report` in one of its
 * forms, which must end with status 0 or 1, in time, and with --error-format=json must print one JSON object a line.
 *   mutate CNNC SECONDS SEED FOLDER FILE...      FOLDER keeps last.cnn (and last.err), the text at hand when something fails
 * In: files to start from. Out: status 0 and a count, or 1 and a sentence with the seed and the command.
 * The same SEED, files and command give the same texts. A sanitizer's report counts as a failure, whatever the exit status.
 * (tests/unit/test_frontend_mutate.c does the same to the front half in one process, many times faster; this adds the options, the
 * printing, the report and its memory plan.) */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
enum { ROOM = 60000, MAX_FILES = 512, TIMEOUT = 120 };

typedef struct { char *at; size_t n; } Text;
typedef struct { const char *word[6]; bool json, plans; } Form;

static const Form forms[] = {
    {{"check", "--error-format=json"}, true, false},
    {{"check", "--error-format=json", "-W", "error"}, true, false},
    {{"check", "--error-format=short"}, false, false},
    {{"check", "--color=always"}, false, false},
    {{"check", "--dump=ast"}, false, false},
    {{"check", "--dump=graph", "--input-shape=1,28,28"}, false, false},
    {{"report", "--error-format=json"}, true, true},
    {{"report", "--format=json", "--batch=7"}, false, true},
    {{"report", "--format=html"}, false, true},
    {{"explain"}, false, false},
};
enum { FORMS = sizeof forms / sizeof *forms };

/* What stands in the language, and numbers at the edge of what it can hold. */
static const char *const words[] = {
    "(", ")", "[", "]", "{", "}", ",", ";", ":", "=", "\n", "_", "*", "**", "//", "/", "%", "-", "==", "<", "not ", "in ", "if ", "else ", "elif ", "for ",
    "repeat ", "let ", "block ", "residual ", "shortcut ", "concat ", "branch ", "train ", "input(", "normalize(", "labels(", "None", "True", "-1", "0",
    "9223372036854775807", "9223372036854775808", "1e308", "1e-320", "nan", "2147483648", "4294967296", "1000000", "0.5", "'same'", "'valid'", "\"", "'", "#",
    "\\", "Sequential(", "OrderedDict([", "(0): ", "class A(nn.Module):\n", "padding_mode='reflect'", "padding_mode='circular'", "stride=0", "groups=3",
    "ceil_mode=True", "dilation=9", "kernel_size=(1, 99)", "Conv2d(", "Linear(_, 10)", "Softmax()", "BatchNorm2d()", "AdaptiveAvgPool2d((None, 3))",
    "Dropout(1)", "\xC3\x97", "\xFF", "\xE2\x82", "\x01", "@", "weight=[[1,2],[3]]", "frozen=True", "dim=-9", "range(100000)", "GLU()", "epochs = 0",
    "schedule = OneCycleLR(max_lr=0.1)", "data = Digits()", "loss = MSELoss()", "nn.", "F.relu(x)", "self.", "=>", "...", "0x10", "1__0", "%s%n", "$(", "`",
};

static uint64_t state_;   /* of the random numbers (an LCG, upper bits); this program's own */
static uint32_t below(uint32_t n)
{
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return n ? (uint32_t)(state_ >> 33) % n : 0;
}

static void splice(Text *t, size_t at, size_t remove, const char *s, size_t n)
{
    if (at > t->n)
        at = t->n;
    if (remove > t->n - at)
        remove = t->n - at;
    if (t->n - remove + n > ROOM)
        return;
    memmove(t->at + at + n, t->at + at + remove, t->n - at - remove);
    memcpy(t->at + at, s, n);
    t->n += n - remove;
}

/* One change: a byte, a word of the language, a piece of this or another file, a number, a line. */
static void change(Text *t, const Text *other)
{
    size_t at = below((uint32_t)t->n + 1), length = 1 + below(below(8) ? 12 : 300), from = below((uint32_t)other->n + 1);
    const char *word = words[below(sizeof words / sizeof *words)];
    char byte = (char)below(256), number[24];
    char *newline;
    switch (below(8)) {
    case 0: splice(t, at, 1, &byte, 1); break;
    case 1: splice(t, at, 0, word, strlen(word)); break;
    case 2: splice(t, at, length, word, strlen(word)); break;
    case 3: splice(t, at, length, "", 0); break;
    case 4:
        if (length > other->n - from)
            length = other->n - from;
        splice(t, at, below(2) ? length : 0, other->at + from, length);
        break;
    case 5:   /* another number in place of the next one */
        while (at < t->n && (t->at[at] < '0' || t->at[at] > '9'))
            at++;
        for (length = 0; at + length < t->n && t->at[at + length] >= '0' && t->at[at + length] <= '9'; length++)
            ;
        snprintf(number, sizeof number, "%u", below(3) ? below(40) : below(100000));
        splice(t, at, length, number, strlen(number));
        break;
    case 6:   /* a line goes */
        newline = memchr(t->at + at, '\n', t->n - at);
        splice(t, at, newline ? (size_t)(newline - t->at) - at + 1 : 0, "", 0);
        break;
    default: splice(t, t->n - below((uint32_t)t->n / 2 + 1), ROOM, "", 0);   /* the end is missing */
    }
}

static Text read_file(const char *path)
{
    Text t = {malloc(ROOM + 1), 0};
    FILE *f = fopen(path, "rb");
    if (t.at && f)
        t.n = fread(t.at, 1, ROOM, f);
    if (f)
        fclose(f);
    if (t.at)
        t.at[t.n] = 0;
    return t;
}

static bool write_file(const char *path, const Text *t)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return false;
    bool fine = fwrite(t->at, 1, t->n, f) == t->n;
    return fclose(f) == 0 && fine;
}

/* Runs the command with stderr in a file; its wait status, or -1 when it took too long. */
static int run(char *const *argv, const char *err_path)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, err_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    pid_t child;
    int status = -1, failed = posix_spawn(&child, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        fprintf(stderr, "mutate: %s: %s\n", argv[0], strerror(failed));
        exit(2);
    }
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);   /* blocked in main, so that it waits here */
    struct timespec left = {TIMEOUT, 0};
    while (waitpid(child, &status, WNOHANG) == 0)
        if (sigtimedwait(&ended, NULL, &left) < 0 && errno == EAGAIN) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return -1;
        }
    return status;
}

/* Every line one object: braces and brackets in pairs, strings closed, no control character inside. */
static bool json_lines(const Text *t)
{
    int depth = 0;
    bool string = false;
    for (size_t i = 0; i < t->n; i++) {
        unsigned char c = (unsigned char)t->at[i];
        if (string && c == '\\')
            i++;
        else if (c == '"')
            string = !string;
        else if (string && c < 0x20)
            return false;
        else if (!string && (c == '{' || c == '['))
            depth++;
        else if (!string && (c == '}' || c == ']'))
            depth--;
        else if (c == '\n' ? depth != 0 : !string && depth <= 0)
            return false;
    }
    return !string && depth == 0;
}

/* NULL: as it should be. */
static const char *judge(int status, const Text *err, bool json)
{
    if (status == -1)
        return "took too long";
    if (WIFSIGNALED(status))
        return strsignal(WTERMSIG(status));
    if (strstr(err->at, "AddressSanitizer") || strstr(err->at, "runtime error:"))
        return "a sanitizer found something";
    if (WEXITSTATUS(status) > 1)
        return "exit status above 1";
    return json && !json_lines(err) ? "standard error is not JSON" : NULL;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: mutate CNNC SECONDS SEED FOLDER FILE...\n");
        return 2;
    }
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, NULL);
    time_t end = time(NULL) + atoi(argv[2]);
    state_ = strtoull(argv[3], NULL, 10);
    char path[4096], err_path[4096];
    snprintf(path, sizeof path, "%s/last.cnn", argv[4]);
    snprintf(err_path, sizeof err_path, "%s/last.err", argv[4]);
    static Text file[MAX_FILES];
    uint32_t files = 0, count = 0, right = 0;
    for (int i = 5; i < argc && files < MAX_FILES; i++)
        file[files++] = read_file(argv[i]);
    Text t = {malloc(ROOM + 1), 0};
    for (; time(NULL) < end; count++) {
        const Text *from = &file[below(files)];
        memcpy(t.at, from->at, t.n = from->n);
        for (uint32_t changes = 1 + below(below(4) ? 3 : 20); changes > 0; changes--)
            change(&t, &file[below(files)]);
        const Form *form = &forms[below(FORMS)];
        if (form->plans && t.n > 1000)   /* plans of large nets take seconds under a sanitizer */
            form = &forms[0];
        if (!write_file(path, &t)) {
            fprintf(stderr, "mutate: %s cannot be written\n", path);
            return 2;
        }
        char *arguments[10] = {argv[1], (char *)form->word[0], path};
        for (int i = 1; i < 6 && form->word[i]; i++)
            arguments[2 + i] = (char *)form->word[i];
        int status = run(arguments, err_path);
        Text err = read_file(err_path);
        const char *wrong = judge(status, &err, form->json);
        if (wrong) {
            fprintf(stderr, "%.4000s\nseed %s, text %u: %s:", err.at, argv[3], count, wrong);
            for (int i = 1; arguments[i]; i++)
                fprintf(stderr, " %s", arguments[i]);
            fputc('\n', stderr);
            return 1;
        }
        right += status == 0;
        free(err.at);
    }
    printf("seed %s: %u texts, %u of them still right, each answered\n", argv[3], count, right);
    return 0;
}
