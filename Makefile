# ptyme: shim, attach and record, built into build/. The two commands for a newcomer: make demo, make test.
CXX      ?= c++
CXXFLAGS ?= -O2
WARN     := -Wall -Wextra -Wpedantic -Wshadow -Wconversion
# The C++ runtime goes into the programs where the linker can do that; libc stays shared (getaddrinfo wants it so).
STATIC   := $(shell echo 'int main(){}' | $(CXX) -x c++ - -static-libstdc++ -static-libgcc -o /dev/null 2>/dev/null \
              && echo -static-libstdc++ -static-libgcc)
# openpty(3) is in libutil on some systems, in libc on others.
LIBUTIL  := $(shell echo 'extern "C" int openpty(...); int main() { return openpty(); }' \
              | $(CXX) -x c++ - -o /dev/null 2>/dev/null || echo -lutil)
SAN_YES  := -g -fsanitize=address,undefined -fno-sanitize-recover=undefined
SAN      := $(if $(SANITIZE),$(SAN_YES))
BUILD    := build$(if $(SANITIZE),/sanitize)
PREFIX   ?= /usr/local
PYTHON   := /usr/bin/python3
PROGRAMS := shim attach record

all: $(PROGRAMS)

shim record: %: $(BUILD)/%

# With SOCK=ADDRESS also attaches there: make attach SOCK=localhost:43210
attach: $(BUILD)/attach
ifdef SOCK
	@$(BUILD)/attach '$(SOCK)'
else
	@echo 'To attach: make attach SOCK=ADDRESS, for example make attach SOCK=localhost:43210'
endif

$(BUILD)/%: %.cpp | $(BUILD)
	$(CXX) -std=c++20 $(CXXFLAGS) $(WARN) $(SAN) $(LDFLAGS) -o $@ $< $(if $(SANITIZE),,$(STATIC)) $(LIBUTIL)

$(BUILD):
	mkdir -p $@

clean:
	rm -rf build

.PHONY: all $(PROGRAMS) clean
.DELETE_ON_ERROR:
