#!/bin/sh
# Installs the Debian packages that the tests need and that are not there yet; says nothing when all are.
#     setup.sh [tour|browser|fuzz|bench|zig|cross]    for make test, or for another target; zig: for make static
set -eu
packages=''
need() {  # need PACKAGE COMMAND...: the package is missing when the command fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || packages="$packages $package"
}
have() { command -v "$1"; }
lessons() {
    need strace have strace
    need procps have ps
    need netcat-openbsd have nc
    need vim-tiny have vim.tiny
}
suite() {
    lessons
    for module in pytest pexpect pyte; do need python3-$module /usr/bin/python3 -c "import $module"; done
    need tmux have tmux
    need iproute2 have ip
    need iputils-ping have ping
    for tool in less htop nano mc dialog asciinema ttyrec gcc git; do need $tool have $tool; done
    need man-db have man
    need systemd have systemd-analyze
    # Programs that late clients see, and terminals that what they see is compared in.
    for tool in screen tig w3m fzf xterm; do need $tool have $tool; done
    need kakoune have kak
    need neovim have nvim
    need vim have vim
    need python3-prompt-toolkit /usr/bin/python3 -c 'import prompt_toolkit'
    need xvfb have Xvfb
    need libvterm-dev test -e /usr/include/vterm.h
    need groff-base have groff
    need mandoc have mandoc
    need bash-completion test -e /usr/share/bash-completion/bash_completion
    need bsdutils have scriptreplay
    for shell in zsh fish; do need $shell have $shell; done
}
case ${1:-suite} in
suite) suite ;;
tour) lessons ;;
zig) need npm have npm ;;
cross)
    need npm have npm
    need g++-11 have g++-11
    ;;
browser)
    suite
    need chromium have chromium
    need npm have npm
    ;;
fuzz)
    suite
    need clang have clang++
    need libclang-rt-14-dev sh -c 'ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a'
    ;;
bench)
    suite
    for tool in dtach screen conmon; do need $tool have $tool; done
    need bsdutils have script
    ;;
*)
    echo "setup.sh: $1: nothing of that name" >&2
    exit 2
    ;;
esac
[ -n "$packages" ] || exit 0
echo "installing:$packages"
export DEBIAN_FRONTEND=noninteractive
sudo=''
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
# shellcheck disable=SC2086  # a list of words
$sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null
