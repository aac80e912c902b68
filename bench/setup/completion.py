"""`bench completion`: what a shell needs to complete `bench …` and `./run bench …`.

click answers what may come next; a shell has to be told how to ask. What is asked through `./run`
is asked without its first word.
"""

from __future__ import annotations

from typing import Literal

Shell = Literal["bash", "zsh", "fish"]
SCRIPTS: dict[Shell, str] = {
    "bash": r"""
_quantbench() {
    local words=("${COMP_WORDS[@]}") at=$COMP_CWORD line IFS=' '
    local program=("${COMP_WORDS[0]/#\~/$HOME}")
    COMPREPLY=()
    if [[ ${words[0]##*/} == run ]]; then
        if (( at < 2 )); then
            COMPREPLY=($(compgen -W 'bench pytest' -- "$2"))
            return
        fi
        [[ ${words[1]} == bench ]] || return
        program+=(bench) words=("${words[@]:1}") at=$((at - 1))
    fi
    while IFS= read -r line; do
        case $line in
            plain,*) COMPREPLY+=("${line#*,}") ;;
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
        esac
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$at _BENCH_COMPLETE=bash_complete \
        "${program[@]}" 2>/dev/null)
}
complete -F _quantbench bench run
""",
    "zsh": r"""
_quantbench() {
    local -a asked=("${words[@]}") program=("${words[1]/#\~/$HOME}") answer plain described
    local at=$CURRENT found=1 kind value help
    if [[ ${words[1]:t} == run ]]; then
        if (( CURRENT < 3 )); then
            compadd bench pytest
            return
        fi
        [[ ${words[2]} == bench ]] || return 1
        program+=(bench) asked=("${(@)words[2,-1]}") at=$((CURRENT - 1))
    fi
    answer=("${(@f)$(COMP_WORDS="${asked[*]}" COMP_CWORD=$((at - 1)) \
        _BENCH_COMPLETE=zsh_complete "${program[@]}" 2>/dev/null)}")
    for kind value help in $answer; do
        case $kind in
            plain)
                if [[ $help == _ ]]; then
                    plain+=("$value")
                else
                    described+=("$value:$help")
                fi ;;
            dir) _path_files -/ && found=0 ;;
            file) _path_files -f && found=0 ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U && found=0
    (( $#plain )) && compadd -U -V unsorted -a plain && found=0
    return found
}
compdef _quantbench bench run
""",
    "fish": r"""
function _quantbench
    set -l words (commandline -opc)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    if string match -qr '(^|/)run$' -- $words[1]
        if test (count $words) -lt 2
            printf '%s\n' bench pytest
            return
        end
        test $words[2] = bench; or return
        set program $program bench
        set words $words[2..-1]
    end
    for line in (env COMP_WORDS="$words" COMP_CWORD=(commandline -t) \
            _BENCH_COMPLETE=fish_complete $program 2>/dev/null)
        set -l parts (string split -m 1 , -- $line)
        switch $parts[1]
            case plain
                echo $parts[2]
            case dir
                __fish_complete_directories (commandline -t)
            case file
                __fish_complete_path (commandline -t)
        end
    end
end
complete --no-files --command bench --arguments '(_quantbench)'
complete --no-files --command run --arguments '(_quantbench)'
""",
}


def script(shell: Shell) -> str:
    """The script for a shell, to be evaluated by it."""
    return SCRIPTS[shell].lstrip()
