"""Look the locked packages up among known vulnerabilities, where that data can be reached.

A finding fails. Packages whose data cannot be reached are counted, not called safe.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "cpu.lock"


def main() -> int:
    command = ["--progress-spinner", "off", "--disable-pip", "--require-hashes", "--timeout", "10"]
    audit = subprocess.run(
        [sys.executable, "-m", "pip_audit", *command, "--format", "json", "-r", str(LOCK)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    try:
        packages = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError):
        last_line = (audit.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"pip-audit: not audited, it could not run here: {last_line[:200]}")
        return 0
    audited = [package for package in packages if "skip_reason" not in package]
    findings = [package for package in audited if package["vulns"]]
    print(
        f"pip-audit: {len(audited)} packages audited, {len(findings)} with known "
        f"vulnerabilities, {len(packages) - len(audited)} without data reachable from here"
    )
    for package in findings:
        print(f"  {package['name']} {package['version']}: {[v['id'] for v in package['vulns']]}")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
