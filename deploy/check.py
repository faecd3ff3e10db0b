"""Whether what stands in this folder fits the program: run by ./test, with the path of the program.

A demo hub is started and scraped by a real Prometheus with the rules of this folder. Every query of the dashboard must give
data, and so must everything that an alert looks at; what is empty while all is well stands in QUIET with its reason.
"""

import json, os, pathlib, re, socket, subprocess, sys, tempfile, time, urllib.parse, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
# A part of a query -> why it may be empty here.
QUIET = {
    'status=~"5.."': "the demo's tills ask for no points",
    "rate(loyalty_quote_requests_total": "the demo's tills ask for no points",
    'result!="ok"': "the demo sends no wrong keys",
    'result=~"refused|limited"': "the demo sends no wrong keys",
}
NAME = re.compile(r'\b(?:(?:uzel|pos|loyalty|http|process)_[a-z_]+|up)\b(?:\{[^}]*\})?')


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"waited in vain for {what}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def query(base, text):
    answer = json.loads(get(f"{base}/api/v1/query?query={urllib.parse.quote(text)}"))
    return answer["data"]["result"]


def panels(dashboard):
    """Every query of the dashboard; the shape that Grafana wants is looked at on the way."""
    found, ids = [], set()
    for panel in dashboard["panels"]:
        assert panel["id"] not in ids, f"panel {panel['id']} is there twice"
        ids.add(panel["id"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, f"{panel['title']} is too wide"
        assert panel["type"] in ("row", "stat", "timeseries"), panel["type"]
        if panel["type"] != "row":
            refs = [target["refId"] for target in panel["targets"]]
            assert refs and len(refs) == len(set(refs)), panel["title"]
            found += [(panel["title"], target["expr"]) for target in panel["targets"]]
    assert dashboard["schemaVersion"] >= 36 and dashboard["uid"] and dashboard["title"]
    return found


def here(expression):
    """As Grafana would ask it."""
    expression = expression.replace("$__rate_interval", "30s").replace("$instance", ".*")
    assert "$" not in expression, f"a variable is not known: {expression}"
    return expression


def main(program):
    for command in (
        ["promtool", "check", "rules", "alerts.yml"],
        ["promtool", "check", "config", "--syntax-only", "prometheus.yml"],
        ["promtool", "test", "rules", "alerts.test.yml"],
    ):
        subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.DEVNULL)
    dashboard = json.loads((HERE / "grafana-dashboard.json").read_text())
    asked = panels(dashboard)
    running = []
    with tempfile.TemporaryDirectory(prefix="uzel-check-") as folder:
        hub, prometheus = free_port(), free_port()
        settings = pathlib.Path(folder, "prometheus.yml")
        settings.write_text(
            f"global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{HERE}/alerts.yml']\n"
            f"scrape_configs:\n  - job_name: uzel\n    static_configs: [{{ targets: ['127.0.0.1:{hub}'] }}]\n"
        )
        base = f"http://127.0.0.1:{prometheus}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            address = f"--web.listen-address=127.0.0.1:{prometheus}"
            data = f"--storage.tsdb.path={folder}/data"
            running.append(subprocess.Popen(["prometheus", f"--config.file={settings}", data, address], **quiet))
            until("Prometheus", lambda: get(f"{base}/-/ready"))
            # After Prometheus, so that it sees figures grow.
            running.append(subprocess.Popen([program, "demo", "--stay", "--listen", f"127.0.0.1:{hub}"], **quiet))
            until("the hub to be scraped", lambda: query(base, 'up{job="uzel"} == 1'))
            until("the demo's texts", lambda: query(base, 'uzel_commands{state="done"} > 10'))
            until("figures that are taken four times a minute", lambda: query(base, "uzel_store_size_bytes > 0"))
            until("two scrapes", lambda: query(base, "min(count_over_time(uzel_commands[1m])) > 4"))
            groups = json.loads(get(f"{base}/api/v1/rules?type=alert"))["data"]["groups"]
            alerts = [rule for group in groups for rule in group["rules"]]
            assert alerts, "no rule was loaded"
            faults = [f"{rule['name']} cannot be judged: {rule['lastError']}" for rule in alerts if rule.get("lastError")]
            faults += [f"{rule['name']} fires on a healthy hub" for rule in alerts if rule["state"] == "firing"]
            looked_at = {(rule["name"], part) for rule in alerts for part in NAME.findall(rule["query"])}
            asked += sorted(looked_at)
            used = set()
            for title, expression in asked:
                # A counter that nothing has counted yet has no series: it is there from its first time on.
                reasons = [part for part in QUIET if part in expression]
                used.update(reasons)
                if not query(base, here(expression)) and not reasons:
                    faults.append(f"{title}: gives nothing: {expression}")
            faults += [f"QUIET names what nobody asks: {part}" for part in QUIET if part not in used]
            documents = (HERE.parent / "docs/operations.md").read_text()
            faults += [f"{rule['name']} is not in docs/operations.md" for rule in alerts if f"`{rule['name']}`" not in documents]
            tests = (HERE / "alerts.test.yml").read_text()
            faults += [f"{rule['name']} has no test" for rule in alerts if f"{rule['name']} fires" not in tests]
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(asked)} queries of the dashboard and of {len(alerts)} alerts give data; each alert was seen to fire")


main(os.path.abspath(sys.argv[1]))
