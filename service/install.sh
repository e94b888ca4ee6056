#!/usr/bin/env bash
# Puts Darkrack onto a Raspberry Pi 4 or 5 (64-bit, bookworm or trixie) or a Jetson Orin (JetPack 6) as a service.
#
#   sudo service/install.sh install     sets everything up; called again it repairs what is missing
#   sudo service/install.sh update      puts this clone's version beside the one that plays, then goes over to it
#   sudo service/install.sh rollback    goes back to the version before
#   sudo service/install.sh uninstall   takes all of it off again, but for /etc/darkrack and /var/lib/darkrack
#
#   --yes          say yes to every question       --no-boot      leave the boot settings alone
#   --dac NAME     overlay of the sound card       --wheels DIR   take Python packages from DIR, not from the network
#   --purge        uninstall: your files as well   --any-board    any 64-bit Debian; jacks are simulated there
set -euo pipefail

base=/opt/darkrack conf=/etc/darkrack state=/var/lib/darkrack unit=/etc/systemd/system/darkrack.service
config=/boot/firmware/config.txt cmdline=/boot/firmware/cmdline.txt
console='s/console=\(serial0\|ttyAMA0\),[0-9]* *//'
clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
yes='' no_boot='' any_board='' purge='' wheels='' dac=hifiberry-dac board=none profile=sim

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
ask() { [ -n "$yes" ] || { [ -t 0 ] && read -r -p "$1 [y/N] " answer && [ "$answer" = y ]; }; }
in_pip() { "$version/bin/pip" --disable-pip-version-check -q "$@"; }
from=()          # where pip looks, for --wheels
export PYPI=1    # has lgpio's setup.py compile its C library in, where there is no wheel

know_board() {
    [ "$(getconf LONG_BIT)" = 64 ] || die "this system is 32-bit, and LiteRT needs 64: install the 64-bit image"
    local model='' VERSION_CODENAME=''
    [ ! -e /proc/device-tree/model ] || model=$(tr -d '\0' </proc/device-tree/model)
    # shellcheck source=/dev/null
    . /etc/os-release
    case "${model/Compute Module /} $VERSION_CODENAME" in
        *"Jetson Nano"*) die "a $model is not supported: JetPack 6 does not run on it" ;;
        *Orin*jammy) board=jetson profile=jetson-orin ;;
        "Raspberry Pi 4"*bookworm | "Raspberry Pi 4"*trixie) board=pi profile=pi4 ;;
        "Raspberry Pi 5"*bookworm | "Raspberry Pi 5"*trixie) board=pi profile=pi5 ;;
        *) [ -n "$any_board" ] || die "${model:-this computer} with $VERSION_CODENAME was not tried;" \
            "--any-board installs all the same" ;;
    esac
}

add_packages() {
    local wanted=(python3-venv libportaudio2) missing=() name
    if python3 -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null; then
        wanted+=(g++ pkg-config python3-dev libasound2-dev swig)  # lgpio and python-rtmidi have no wheels there
    fi
    for name in "${wanted[@]}"; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    [ ${#missing[@]} != 0 ] || return 0
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    printf '%s\n' "${missing[@]}" >>$base/packages
}

add_user() {
    local name
    for name in audio spi gpio dialout; do
        getent group $name >/dev/null || { groupadd --system $name; echo $name >>$base/groups; }
    done
    id darkrack >/dev/null 2>&1 || useradd --system --user-group --home-dir $state --no-create-home \
        --shell /usr/sbin/nologin --groups audio,spi,gpio,dialout darkrack
    install -d -o darkrack -g darkrack $state
    [ ! -e $conf/darkrack.conf ] || return 0  # yours
    local audio=default options=--resume  # the sound of the last time
    [ $board != none ] || { audio=null options='--script hello'; }
    install -d $conf
    cat >$conf/darkrack.conf <<CONF
# What the service plays. After a change: sudo systemctl restart darkrack
# A bundle, or several; names without spaces. Yours may lie in $state.
BUNDLE=$base/current/share/darkrack/flagship.rack
PROFILE=$profile
# The sound card, or part of its name (darkrack doctor lists them); null for none.
AUDIO=$audio
BLOCK=128
# Anything else that darkrack play --help knows.
OPTIONS=$options
CONF
}

one_gpio() {  # both fill one folder, RPi: whichever is removed takes the other's files along
    if [ $board = pi ] && in_pip show RPi.GPIO >/dev/null 2>&1; then
        say "removing RPi.GPIO, which something brought beside rpi-lgpio"
        in_pip uninstall -y RPi.GPIO rpi-lgpio
        in_pip install "${from[@]}" rpi-lgpio
    fi
}

make_version() {  # a half-made one is removed
    version=$base/versions/$(sed -n 's/^version = "\(.*\)"/\1/p' "$clone/pyproject.toml")-$(date +%Y%m%d-%H%M%S)
    say "making $version; this takes minutes"
    local copy what bundle
    copy=$(mktemp -d)
    trap 'rm -rf "$version" "$copy"' EXIT
    cp -r "$clone"/{pyproject.toml,README.md,LICENSE,darkrack.py,device,train,compress} "$copy"  # pip builds in place
    what=$copy
    [ -z "$wheels" ] || what=darkrack
    case $board in pi) what+='[pi]' ;; jetson) what+='[jetson]' ;; esac
    python3 -m venv "$version"
    in_pip install "${from[@]}" "$what"
    "$version/bin/python" -c 'import rtmidi' 2>/dev/null || in_pip install "${from[@]}" python-rtmidi \
        || say "note: python-rtmidi could not be installed, so there is no USB MIDI"
    one_gpio
    install -D -m 644 -t "$version/share/darkrack" "$clone"/models/*.rack "$clone/service/darkrack.service"
    for bundle in "$version/share/darkrack"/*.rack; do "$version/bin/darkrack" bundle verify "$bundle" >/dev/null; done
    rm -rf "$copy"
    trap - EXIT
}

point() { ln -sfn "$2" "$base/$1.new"; mv -T "$base/$1.new" "$base/$1"; }  # in one step: there is always a current

go_over() {  # to what is current now; the unit belongs to the version
    install -m 644 $base/current/share/darkrack/darkrack.service $unit
    ln -sfn $base/current/bin/darkrack /usr/local/bin/darkrack
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl enable -q darkrack
        systemctl restart --no-block darkrack
    elif command -v systemctl >/dev/null; then
        systemctl --root=/ enable -q darkrack
        say "note: systemd does not run here; Darkrack starts with the next boot"
    else
        say "note: there is no systemctl here, so nothing starts Darkrack"
    fi
}

boot_settings() {  # our lines stand between two marks, to be taken out again
    [ $board != jetson ] || say "note: SPI is switched on in /opt/nvidia/jetson-io/jetson-io.py: spi1 (19,21,23,24,26)"
    if [ $board != pi ] || [ -n "$no_boot" ] || [ ! -e $config ] || grep -qx '# darkrack: begin' $config; then return; fi
    local lines=()
    if ask "Switch on SPI, for knobs and CV?"; then lines+=(dtparam=spi=on); fi
    if ask "Use the sound card that the overlay $dac drives?"; then lines+=("dtoverlay=$dac"); fi
    if ask "Have MIDI on the UART, pins 8 and 10? (It is no console then, and a Pi 4 has no Bluetooth.)"; then
        lines+=(dtoverlay=midi-uart0)
        if [ $profile = pi4 ]; then lines+=(dtoverlay=disable-bt); else lines+=(dtoverlay=uart0-pi5); fi
        cp -p $cmdline $cmdline.before-darkrack
        sed "$console" $cmdline.before-darkrack >$cmdline
    fi
    [ ${#lines[@]} != 0 ] || return 0
    cp -p $config $config.before-darkrack
    printf '%s\n' "$(cat $config.before-darkrack)" '# darkrack: begin' '[all]' "${lines[@]}" '# darkrack: end' >$config
    say "boot settings hold after a restart; the old ones are $config.before-darkrack"
}

boot_settings_back() {  # as they were; what you changed since is kept
    local old=$config.before-darkrack
    if [ -e $old ]; then
        sed -i '/^# darkrack: begin$/,/^# darkrack: end$/d' $config
        if [ "$(cat $config)" != "$(cat $old)" ]; then rm $old; else mv $old $config; fi
    fi
    old=$cmdline.before-darkrack
    [ -e $old ] || return 0
    if [ "$(cat $cmdline)" = "$(sed "$console" $old)" ]; then mv $old $cmdline; else say "note: see $old"; fi
}

uninstall() {
    if [ -d /run/systemd/system ]; then systemctl disable -q --now darkrack || true
    elif command -v systemctl >/dev/null; then systemctl --root=/ disable -q darkrack; fi
    boot_settings_back
    rm -f $unit /usr/local/bin/darkrack
    userdel darkrack 2>/dev/null || true
    [ ! -e $base/groups ] || xargs -n 1 groupdel <$base/groups
    [ ! -e $base/packages ] || xargs apt-mark auto <$base/packages  # sudo apt autoremove takes them off
    rm -rf $base /var/cache/darkrack
    if [ -n "$purge" ]; then rm -rf $conf $state; else say "your files are still in $conf and $state"; fi
}

action=${1:-}
[ $# = 0 ] || shift
while [ $# != 0 ]; do
    case "$1" in
        --yes) yes=1 ;; --no-boot) no_boot=1 ;; --any-board) any_board=1 ;; --purge) purge=1 ;;
        --dac) dac=${2:?} && shift ;;
        --wheels) wheels=$(realpath "${2:?}") && from=(--no-index --find-links "$wheels") && shift ;;
        *) die "unknown option $1; the first lines of $0 list them" ;;
    esac
    shift
done
[[ $action =~ ^(install|update|rollback|uninstall)$ ]] || { sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0"; exit 2; }
[ "$(id -u)" = 0 ] || die "this needs root: sudo $0 $action"

case $action in
    install | update)
        know_board
        mkdir -p $base/versions
        add_packages
        add_user
        before=$(readlink $base/current || true)
        if [ "$action" = update ] || [ ! -x $base/current/bin/darkrack ]; then
            make_version
            [ -z "$before" ] || point previous "$before"
            point current "$version"
            for old in "$base"/versions/*; do [[ $old = "$version" || $old = "$before" ]] || rm -rf "$old"; done
        else
            version=$before
            one_gpio
        fi
        [ "$action" = update ] || boot_settings
        go_over
        say "$(basename "$version") is installed. darkrack doctor says what this machine lacks" ;;
    rollback)
        before=$(readlink $base/previous) || die "there is no version before this one"
        point previous "$(readlink $base/current)"
        point current "$before"
        go_over
        say "went back to $(basename "$before"); rollback again goes forth" ;;
    uninstall) uninstall ;;
esac
