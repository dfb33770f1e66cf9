# Read by `continuum` and `test` in the clone's root folder: finds the environment, or makes it.
#
# Takes:  here   the clone's root folder
#         kind   "run", or "test" for an environment that has the tests' packages too
#         $@     the program's arguments: --yes installs missing packages without a question
# Sets:   environment   a Python environment that holds the dependencies
#         cache         the folder that other caches lie in

# Closed standard streams: the next file that is opened would take their number. (No `:`, whose
# redirections end the shell when they fail.)
true 3>&2 || exec 2>/dev/null
{ true 3<&0; } 2>/dev/null || exec </dev/null
{ true 3>&1; } 2>/dev/null || exec >/dev/null

# What keeps a shell or Python from starting, or makes it another one; continuum/environment.py
# takes away the rest.
unset BASH_ENV ENV LD_AUDIT LD_DEBUG LD_LIBRARY_PATH LD_PRELOAD
for name in $(env | sed -n 's/^\(PYTHON[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done

if [ -z "${HOME:-}" ]; then
    HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
    export HOME
fi
# After `sudo ./continuum` the folders are those of the person who called, as without sudo.
if [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] && [ "$(id -u)" = 0 ]; then
    HOME=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    PYTHONDONTWRITEBYTECODE=1
    export HOME PYTHONDONTWRITEBYTECODE
fi

# One that is relative counts for nothing, says the XDG base directory specification.
cache=$HOME/.cache
case ${XDG_CACHE_HOME:-} in /*) cache=$XDG_CACHE_HOME ;; esac
environments=$cache/continuum/environments
lock=$here/requirements.lock
if [ "$kind" != run ]; then lock=$here/requirements-$kind.lock; fi
key=$(sha256sum <"$lock") || exit 3
pointer=$environments/for/$kind-${key%% *}
environment=
made_for=

# The pointer holds two lines: the environment, and the interpreter that was asked for.
read_pointer() {
    if [ -r "$pointer" ]; then
        { IFS= read -r environment && IFS= read -r made_for; } <"$pointer" || environment=
    fi
}

usable_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${CONTINUUM_PYTHON:-}" ]; then
        if usable_python "$CONTINUUM_PYTHON"; then
            python=$CONTINUUM_PYTHON
            return
        fi
        echo "continuum: CONTINUUM_PYTHON=$CONTINUUM_PYTHON is not a Python 3.11 or newer" >&2
        exit 3
    fi
    for python in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if usable_python "$python"; then return; fi
    done
    echo "continuum: needs Python 3.11 or newer, and found none" >&2
    echo "  what to do: apt-get install python3, or set CONTINUUM_PYTHON=/path/to/python3" >&2
    exit 3
}

read_pointer
if [ ! -f "$environment/complete" ] || [ ! -x "$environment/bin/python" ] ||
    [ "$made_for" != "${CONTINUUM_PYTHON:-}" ]; then
    find_python
    for argument; do
        case $argument in
        --yes | -y) yes=--yes ;;
        --) break ;;
        esac
    done
    PYTHONPATH=$here/src "$python" -B -P -s -m continuum.cli.bootstrap \
        "$lock" "$environments" "$pointer" ${yes:-}
    read_pointer
fi

# Byte code is kept beside the sources, or where the user may write.
if [ ! -w "$here/src/continuum" ]; then
    export PYTHONPYCACHEPREFIX="$environments/byte-code"
fi
export PYTHONPATH="$here/src"
