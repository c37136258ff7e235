"""Started by root, the measurement still runs as an ordinary user, who is whom all this is for: from a
copy, since that user may not be able to read where root builds."""

import os
import shutil
import subprocess
import tempfile

# Forwarders with a tap device need one that everybody may open, which is what udev makes of it. Where it
# is not so, a mount namespace gets one; nobody else sees it.
SCRIPT = """
if [ -e /dev/net/tun ] && mknod "$1/tun" c 10 200; then
  chmod 666 "$1/tun"
  mount --bind "$1/tun" /dev/net/tun
fi
folder=$1 user=$2
shift 2
cd /
exec setpriv --reuid "$user" --regid "$user" --init-groups --pdeathsig TERM \\
  env -i HOME="$folder/home" USER="$user" TMPDIR="$folder/home" PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""


def run_again(bench, arguments, programs):
    """Runs this program again as that user, with copies of these programs, {name: path}; its status."""
    user = subprocess.run([os.path.join(bench, "../.ci/test-user")], check=True, stdout=subprocess.PIPE,
                          text=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="pesto-bench-") as folder:
        os.chmod(folder, 0o755)
        home = os.path.join(folder, "home")
        os.mkdir(home)
        shutil.chown(home, user)
        shutil.copytree(os.path.join(bench, "suite"), os.path.join(folder, "suite"),
                        ignore=shutil.ignore_patterns("__pycache__"))
        command = ["python3", shutil.copy(os.path.join(bench, "compare"), folder), *arguments]
        for name, path in programs.items():
            command += ["--program", f"{name}={copy(path, os.path.join(folder, name))}"]
        child = subprocess.Popen(["unshare", "--mount", "sh", "-c", SCRIPT, "sh", folder, user, *command])
        try:
            return child.wait()
        except BaseException:
            # Interrupted: the child has things to end, and ends when they have.
            child.terminate()
            child.wait(timeout=60)
            raise


def copy(program, folder):
    """A copy of a program, and of the daemon beside it, if there is one."""
    os.makedirs(folder)
    daemon = os.path.join(os.path.dirname(program), "pestod")
    if os.path.exists(daemon):
        shutil.copy(daemon, folder)
    return shutil.copy(program, folder)
