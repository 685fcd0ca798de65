"""The one table of commands and flags; the parser, the help and the completion come from it.

Constants only, so that loading it costs next to nothing; `command` makes a
`Command` of one entry.  A flag is ``(long, short, kind, help)``.  The kind is
the word that docker's help shows for the value; it also says how to read it:

    ""                a switch (``--flag``, ``--flag=false``)
    list, filter ...  may be repeated (`REPEATED`)
    int, uint         checked to be a number
    string[="x"]      the value may be left out (then it is x) and needs the ``=``

A flag without help is accepted but not shown.
"""

from __future__ import annotations

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Flag: TypeAlias = tuple[str, str, str, str]
    Entry: TypeAlias = tuple[str, str, int, int, str, tuple[Flag, ...], tuple[str, ...]]

PROGRAM = "sandbox"
UNBOUNDED = -1
REPEATED = ("list", "filter", "mount", "ulimit", "map")

# Other spellings of a flag.
SPELLINGS = {"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"}

GLOBAL_FLAGS: tuple[Flag, ...] = (
    ("root", "", "string", "Folder that keeps images and containers (SANDBOX_ROOT)"),
    ("run", "", "string", "Folder for sockets and locks, gone after a reboot (SANDBOX_RUN)"),
    ("debug", "D", "", "Show what is done, and tracebacks of unexpected errors"),
    ("help", "", "", "Print usage"),
    ("version", "v", "", "Print version information and quit"),
)

_CREATE_FLAGS: tuple[Flag, ...] = (
    ("add-host", "", "list", "Add a custom host-to-IP mapping (host:ip)"),
    ("allow-unenforced", "", "list", "Run without this limit where the host cannot enforce it"),
    ("attach", "a", "list", "Attach to STDIN, STDOUT or STDERR"),
    ("blkio-weight", "", "uint16", "Block IO (relative weight), between 10 and 1000"),
    ("cap-add", "", "list", "Add Linux capabilities"),
    ("cap-drop", "", "list", "Drop Linux capabilities"),
    ("cgroup-parent", "", "string", "Parent cgroup for the container"),
    ("cidfile", "", "string", "Write the container ID to the file"),
    ("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    ("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    ("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    ("cpu-time", "", "duration", "Kill the container when it has used this much CPU time"),
    ("cpus", "", "decimal", "Number of CPUs"),
    ("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    ("device", "", "list", "Add a host device to the container"),
    ("device-read-bps", "", "list", "Limit read rate (bytes per second) from a device"),
    ("device-read-iops", "", "list", "Limit read rate (IO per second) from a device"),
    ("device-write-bps", "", "list", "Limit write rate (bytes per second) to a device"),
    ("device-write-iops", "", "list", "Limit write rate (IO per second) to a device"),
    ("dns", "", "list", "Set custom DNS servers"),
    ("dns-opt", "", "list", ""),
    ("dns-option", "", "list", "Set DNS options"),
    ("dns-search", "", "list", "Set custom DNS search domains"),
    ("domainname", "", "string", "Container NIS domain name"),
    ("entrypoint", "", "string", "Overwrite the default ENTRYPOINT of the image"),
    ("env", "e", "list", "Set environment variables"),
    ("env-file", "", "list", "Read in a file of environment variables"),
    ("expose", "", "list", "Expose a port or a range of ports"),
    ("gidmap", "", "list", "Map group IDs (container:host:count)"),
    ("group-add", "", "list", "Add additional groups to join"),
    ("health-cmd", "", "string", "Command to run to check health"),
    ("health-interval", "", "duration", "Time between running the check (ms|s|m|h) (default 0s)"),
    ("health-retries", "", "int", "Consecutive failures needed to report unhealthy"),
    (
        "health-start-interval",
        "",
        "duration",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    (
        "health-start-period",
        "",
        "duration",
        "Start period for the container to initialize before starting health-retries countdown "
        "(ms|s|m|h) (default 0s)",
    ),
    (
        "health-timeout",
        "",
        "duration",
        "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
    ),
    ("hostname", "h", "string", "Container host name"),
    ("init", "", "", "Run an init inside that forwards signals and reaps processes"),
    ("interactive", "i", "", "Keep STDIN open even if not attached"),
    ("ip", "", "string", "IPv4 address (e.g., 172.30.100.104)"),
    ("ip6", "", "string", "IPv6 address (e.g., 2001:db8::33)"),
    ("ipc", "", "string", "IPC mode to use (private, host, container:ID)"),
    ("label", "l", "list", "Set meta data on a container"),
    ("label-file", "", "list", "Read in a line delimited file of labels"),
    ("log-driver", "", "string", "Logging driver for the container (file, none)"),
    ("log-opt", "", "list", "Log driver options (max-size, max-file, labels, env)"),
    ("mac-address", "", "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    ("memory", "m", "bytes", "Memory limit"),
    ("memory-reservation", "", "bytes", "Memory soft limit"),
    ("memory-swap", "", "bytes", "Limit of memory and swap together: '-1' for unlimited swap"),
    ("memory-swappiness", "", "int", "Tune container memory swappiness (0 to 100)"),
    ("mount", "", "mount", "Attach a filesystem mount to the container"),
    ("name", "", "string", "Assign a name to the container"),
    ("net", "", "string", ""),
    ("net-alias", "", "list", ""),
    ("network", "", "string", "Connect a container to a network"),
    ("network-alias", "", "list", "Add network-scoped alias for the container"),
    ("no-healthcheck", "", "", "Disable any container-specified HEALTHCHECK"),
    ("oom-score-adj", "", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    ("output-limit", "", "bytes", "Kill the container when it has printed this much"),
    ("pid", "", "string", "PID namespace to use (host, container:ID)"),
    ("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
    ("platform", "", "string", "Refuse an image that is not for this platform"),
    ("privileged", "", "", "Give extended privileges to the container"),
    ("publish", "p", "list", "Publish a container's port(s) to the host"),
    ("publish-all", "P", "", "Publish all exposed ports to random ports"),
    ("pull", "", "string", "Pull image before creating (always, missing, never)"),
    ("quiet", "q", "", "Suppress the pull output"),
    ("read-only", "", "", "Mount the container's root filesystem as read only"),
    ("restart", "", "string", "Restart policy to apply when a container exits"),
    ("rm", "", "", "Remove the container and its anonymous volumes when it exits"),
    ("rootfs", "", "", "IMAGE is the path of a plain folder"),
    ("security-opt", "", "list", "Security Options"),
    ("shm-size", "", "bytes", "Size of /dev/shm"),
    ("stop-signal", "", "string", "Signal to stop the container"),
    ("stop-timeout", "", "int", "Timeout (in seconds) to stop a container"),
    ("storage-opt", "", "list", "Storage options (size=BYTES bounds the writable layer)"),
    ("sysctl", "", "map", "Sysctl options"),
    ("timeout", "", "duration", "Kill the container when it has run this long"),
    ("tmpfs", "", "list", "Mount a tmpfs directory"),
    ("tty", "t", "", "Allocate a pseudo-TTY"),
    ("uidmap", "", "list", "Map user IDs (container:host:count)"),
    ("ulimit", "", "ulimit", "Ulimit options"),
    ("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    ("userns", "", "string", "User namespace to use (host, auto)"),
    ("uts", "", "string", "UTS namespace to use (host)"),
    ("volatile", "", "", "Never wait for the disk: the writable layer is lost in a crash"),
    ("volume", "v", "list", "Bind mount a volume"),
    ("volumes-from", "", "list", "Mount volumes from the specified container(s)"),
    ("workdir", "w", "string", "Working directory inside the container"),
)

# Words that are taken for the value of a flag whose value may be left out.
OPTIONAL_WORDS = {"report": ("text", "json")}

_RUN_FLAGS: tuple[Flag, ...] = (
    ("debug", "", "", "Print the launch plan before it is carried out"),
    ("detach", "d", "", "Run container in background and print container ID"),
    ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
    (
        "report",
        "",
        'string[="text"]',
        "Print verdict and receipt to STDERR at the end (text, json)",
    ),
    ("report-file", "", "string", "Write verdict and receipt to the file, as JSON"),
    ("sig-proxy", "", "", "Proxy received signals to the process (default true)"),
)

_FORMAT: Flag = (
    "format",
    "",
    "string",
    "Format output: 'table', 'table TEMPLATE', 'json', or a Go template",
)
_NO_TRUNC: Flag = ("no-trunc", "", "", "Don't truncate output")
_TIME: Flag = ("time", "", "int", "")
_ANCESTOR: Flag = ("ancestor", "", "list", "Choose containers of this image, or built upon it")
_FILTER: Flag = ("filter", "", "filter", "Choose containers by the filters of ps, not by name")

# verb: (positionals, summary, fewest, most arguments, what they are, flags, examples).
# What they are, for the completion: "container", "running", "image", "volume", "object", "file",
# "image command" (an image, then anything), "running command".
COMMANDS: dict[str, Entry] = {
    "run": (
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        1,
        UNBOUNDED,
        "image command",
        _CREATE_FLAGS + _RUN_FLAGS,
        (
            "sandbox run --rm busybox echo hello",
            "sandbox run -it --rm busybox sh",
            "sandbox run -d --name web -m 64m --cpus 0.5 busybox httpd -f",
            "sandbox run --rm --timeout 5s --report busybox sh -c 'exit 3'",
            "sandbox run --rm host python3 -V",
        ),
    ),
    "create": (
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        1,
        UNBOUNDED,
        "image command",
        _CREATE_FLAGS,
        ("sandbox create --name job busybox sh -c 'echo done'",),
    ),
    "start": (
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        1,
        UNBOUNDED,
        "container",
        (
            ("attach", "a", "", "Attach STDOUT/STDERR and forward signals"),
            ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
            ("interactive", "i", "", "Attach container's STDIN"),
            ("restart-policy", "", "", "After a reboot: start what its restart policy brings back"),
        ),
        ("sandbox start job", "sandbox start -ai job", "sandbox start --restart-policy"),
    ),
    "attach": (
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        1,
        1,
        "running",
        (
            ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
            ("no-stdin", "", "", "Do not attach STDIN"),
            ("sig-proxy", "", "", "Proxy all received signals to the process (default true)"),
        ),
        ("sandbox attach web", "sandbox attach --detach-keys ctrl-x,x web"),
    ),
    "exec": (
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        2,
        UNBOUNDED,
        "running command",
        (
            ("detach", "d", "", "Detached mode: run command in the background"),
            ("env", "e", "list", "Set environment variables"),
            ("env-file", "", "list", "Read in a file of environment variables"),
            ("interactive", "i", "", "Keep STDIN open even if not attached"),
            ("privileged", "", "", "Give extended privileges to the command"),
            ("timeout", "", "duration", "Kill the command when it has run this long"),
            ("tty", "t", "", "Allocate a pseudo-TTY"),
            ("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
            ("workdir", "w", "string", "Working directory inside the container"),
        ),
        (
            "sandbox exec web ps",
            "sandbox exec -it web sh",
            "sandbox exec --timeout 10s -u www-data -w /srv web ./check",
        ),
    ),
    "ps": (
        "[OPTIONS]",
        "List containers",
        0,
        0,
        "",
        (
            ("all", "a", "", "Show all containers (default shows just running)"),
            ("filter", "f", "filter", "Filter output based on conditions provided"),
            _FORMAT,
            ("last", "n", "int", "Show n last created containers (includes all states)"),
            ("latest", "l", "", "Show the latest created container (includes all states)"),
            _NO_TRUNC,
            ("quiet", "q", "", "Only display container IDs"),
            ("size", "s", "", "Display total file sizes"),
        ),
        (
            "sandbox ps -a",
            "sandbox ps -aq --filter status=exited",
            "sandbox ps --format 'table {{.Names}}\\t{{.Status}}'",
        ),
    ),
    "images": (
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        0,
        1,
        "image",
        (
            ("all", "a", "", "Show all images (default hides intermediate images)"),
            ("digests", "", "", "Show digests"),
            ("filter", "f", "filter", "Filter output based on conditions provided"),
            _FORMAT,
            _NO_TRUNC,
            ("quiet", "q", "", "Only show image IDs"),
        ),
        ("sandbox images", "sandbox images --no-trunc busybox", "sandbox images -q"),
    ),
    "load": (
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        0,
        0,
        "",
        (
            ("input", "i", "string", "Read from an archive or OCI layout folder, not from STDIN"),
            ("quiet", "q", "", "Suppress the progress"),
        ),
        ("sandbox load -i image.tar", "zcat image.tar.gz | sandbox load"),
    ),
    "pull": (
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        1,
        1,
        "image",
        (
            ("all-tags", "a", "", "Download all tagged images in the repository"),
            ("platform", "", "string", "Set platform, where the name means images of several"),
            ("quiet", "q", "", "Suppress verbose output"),
        ),
        (
            "sandbox pull busybox",
            "sandbox pull --platform linux/arm64 registry.example.com/team/app:1",
        ),
    ),
    "push": (
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        1,
        1,
        "image",
        (
            ("all-tags", "a", "", "Push all tags of an image to the repository"),
            ("quiet", "q", "", "Suppress verbose output"),
        ),
        ("sandbox push registry.example.com/team/app:1",),
    ),
    "search": (
        "[OPTIONS] [HOST[:PORT]/]TERM",
        "Search a registry for repositories",
        1,
        1,
        "",
        (
            ("filter", "f", "filter", "Filter output based on conditions provided"),
            _FORMAT,
            ("limit", "", "int", "Max number of search results"),
            _NO_TRUNC,
        ),
        (
            "sandbox search --filter is-official=true busybox",
            "sandbox search registry.example.com/app",
        ),
    ),
    "login": (
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry",
        0,
        1,
        "",
        (
            ("password", "p", "string", "Password"),
            ("password-stdin", "", "", "Take the password from STDIN"),
            ("username", "u", "string", "Username"),
        ),
        (
            "sandbox login registry.example.com",
            "sandbox login -u me --password-stdin registry.example.com <password-file",
        ),
    ),
    "logout": (
        "[SERVER]",
        "Log out from a registry",
        0,
        1,
        "",
        (),
        ("sandbox logout registry.example.com",),
    ),
    "import": (
        "[OPTIONS] file|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        1,
        2,
        "file",
        (
            ("change", "c", "list", "Apply Dockerfile instruction to the created image"),
            ("message", "m", "string", "Set commit message for imported image"),
            ("platform", "", "string", "Set platform of the image (only this host's)"),
        ),
        (
            "sandbox import rootfs.tar.gz mine:1",
            "tar -C rootfs -c . | sandbox import -c 'CMD [\"sh\"]' - mine:1",
        ),
    ),
    "commit": (
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        1,
        2,
        "container",
        (
            ("author", "a", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
            ("change", "c", "list", "Apply Dockerfile instruction to the created image"),
            ("message", "m", "string", "Commit message"),
            ("pause", "p", "", "Pause container during commit (default true)"),
        ),
        (
            "sandbox commit web web:fixed",
            "sandbox commit -m 'with tools' -c 'CMD [\"sh\"]' build tools:1",
        ),
    ),
    "diff": (
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        1,
        1,
        "container",
        (),
        ("sandbox diff web",),
    ),
    "logs": (
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        1,
        1,
        "container",
        (
            ("details", "", "", "Show extra details provided to logs"),
            ("follow", "f", "", "Follow log output"),
            ("since", "", "string", 'Show logs since timestamp or relative (e.g. "42m")'),
            ("tail", "n", "string", "Number of lines to show from the end of the logs"),
            ("timestamps", "t", "", "Show timestamps"),
            ("until", "", "string", 'Show logs before a timestamp or relative (e.g. "42m")'),
        ),
        ("sandbox logs web", "sandbox logs -f --tail 10 web", "sandbox logs --since 5m -t web"),
    ),
    "inspect": (
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on containers, images, networks and volumes",
        1,
        UNBOUNDED,
        "object",
        (
            ("format", "f", "string", "Format output using a Go template, or 'json'"),
            ("size", "s", "", "Display total file sizes if the type is container"),
            ("type", "", "string", "Inspect only this type (container, image, network, volume)"),
        ),
        (
            "sandbox inspect web",
            "sandbox inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' web",
            "sandbox inspect -f '{{json .Sandbox.Receipt}}' web",
        ),
    ),
    "wait": (
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        1,
        UNBOUNDED,
        "container",
        (("report", "", 'string[="text"]', "Print verdict and receipt too (text, json)"),),
        ("sandbox wait job", "sandbox wait --report=json job"),
    ),
    "kill": (
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        1,
        UNBOUNDED,
        "running",
        (_ANCESTOR, _FILTER, ("signal", "s", "string", "Signal to send to the container")),
        ("sandbox kill web", "sandbox kill -s HUP web", "sandbox kill --filter label=job"),
    ),
    "stop": (
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        1,
        UNBOUNDED,
        "running",
        (
            _ANCESTOR,
            _FILTER,
            ("timeout", "t", "int", "Seconds to wait before killing the container"),
            _TIME,
        ),
        ("sandbox stop web", "sandbox stop -t 1 web db", "sandbox stop --ancestor busybox"),
    ),
    "restart": (
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        1,
        UNBOUNDED,
        "container",
        (
            ("timeout", "t", "int", "Seconds to wait before killing the container"),
            _TIME,
        ),
        ("sandbox restart web",),
    ),
    "pause": (
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        1,
        UNBOUNDED,
        "running",
        (),
        ("sandbox pause web",),
    ),
    "unpause": (
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        1,
        UNBOUNDED,
        "running",
        (),
        ("sandbox unpause web",),
    ),
    "cp": (
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem",
        2,
        2,
        "file",
        (
            ("archive", "a", "", "Archive mode (copy all uid/gid information)"),
            ("follow-link", "L", "", "Always follow symbol link in SRC_PATH"),
            ("quiet", "q", "", "Suppress progress output during copy"),
        ),
        (
            "sandbox cp web:/etc/passwd .",
            "sandbox cp -a site/. web:/srv",
            "sandbox cp web:/var/log - | tar t",
            "tar c data | sandbox cp - web:/srv",
        ),
    ),
    "export": (
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        1,
        1,
        "container",
        (("output", "o", "string", "Write to a file, instead of STDOUT"),),
        ("sandbox export -o web.tar web", "sandbox export web | sandbox import - web:1"),
    ),
    "rename": (
        "CONTAINER NEW_NAME",
        "Rename a container",
        2,
        2,
        "container",
        (),
        ("sandbox rename web old-web",),
    ),
    "top": (
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        1,
        UNBOUNDED,
        "running command",
        (),
        ("sandbox top web", "sandbox top web -o pid,rss,comm"),
    ),
    "port": (
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        1,
        2,
        "container",
        (),
        ("sandbox port web", "sandbox port web 80/tcp"),
    ),
    "stats": (
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        0,
        UNBOUNDED,
        "running",
        (
            ("all", "a", "", "Show all containers (default shows just running)"),
            _FORMAT,
            ("no-stream", "", "", "Disable streaming stats and only pull the first result"),
            _NO_TRUNC,
        ),
        ("sandbox stats", "sandbox stats --no-stream --format json web"),
    ),
    "update": (
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        1,
        UNBOUNDED,
        "container",
        (
            ("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
            ("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
            ("cpu-shares", "c", "int", "CPU shares (relative weight)"),
            ("cpus", "", "decimal", "Number of CPUs"),
            ("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
            ("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
            ("memory", "m", "bytes", "Memory limit"),
            ("memory-reservation", "", "bytes", "Memory soft limit"),
            (
                "memory-swap",
                "",
                "bytes",
                "Limit of memory and swap together: '-1' for unlimited swap",
            ),
            ("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
            ("restart", "", "string", "Restart policy to apply when a container exits"),
        ),
        ("sandbox update --cpus 0.5 -m 128m --memory-swap 256m web",),
    ),
    "container prune": (
        "[OPTIONS]",
        "Remove all stopped containers",
        0,
        0,
        "",
        (
            ("filter", "", "filter", "Provide filter values (label=NAME[=VALUE], until=TIME)"),
            ("force", "f", "", "Do not prompt for confirmation"),
        ),
        (
            "sandbox container prune",
            "sandbox container prune -f --filter until=24h",
        ),
    ),
    "image prune": (
        "[OPTIONS]",
        "Remove unused images",
        0,
        0,
        "",
        (
            ("all", "a", "", "Remove all unused images, not just dangling ones"),
            ("filter", "", "filter", "Provide filter values (label=NAME[=VALUE], until=TIME)"),
            ("force", "f", "", "Do not prompt for confirmation"),
        ),
        ("sandbox image prune", "sandbox image prune -a -f --filter until=24h"),
    ),
    "system df": (
        "[OPTIONS]",
        "Show disk usage",
        0,
        0,
        "",
        (
            ("format", "", "string", "Format output using a custom template, or 'json'"),
            ("verbose", "v", "", "Show detailed information on space usage"),
        ),
        ("sandbox system df", "sandbox system df -v"),
    ),
    "system prune": (
        "[OPTIONS]",
        "Remove unused data",
        0,
        0,
        "",
        (
            ("all", "a", "", "Remove all unused images not just dangling ones"),
            ("filter", "", "filter", "Provide filter values (label=NAME[=VALUE], until=TIME)"),
            ("force", "f", "", "Do not prompt for confirmation"),
            ("volumes", "", "", "Prune anonymous volumes"),
        ),
        ("sandbox system prune", "sandbox system prune -a -f --volumes"),
    ),
    "image fsck": (
        "[OPTIONS] [IMAGE...]",
        "Verify blobs by their digests and unpacked layers by their blobs",
        0,
        UNBOUNDED,
        "image",
        (("format", "", "string", "Format output: 'table' or 'json'"),),
        ("sandbox image fsck", "sandbox image fsck --format json busybox"),
    ),
    "rm": (
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Remove one or more containers",
        1,
        UNBOUNDED,
        "container",
        (
            _ANCESTOR,
            _FILTER,
            ("force", "f", "", "Force the removal of a running container (uses SIGKILL)"),
            ("volumes", "v", "", "Remove anonymous volumes associated with the container"),
        ),
        (
            "sandbox rm job",
            "sandbox rm -f $(sandbox ps -aq)",
            "sandbox rm --filter status=exited",
        ),
    ),
    "rmi": (
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        1,
        UNBOUNDED,
        "image",
        (("force", "f", "", "Force removal of the image"),),
        ("sandbox rmi busybox:1.36",),
    ),
    "history": (
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        1,
        1,
        "image",
        (
            _FORMAT,
            ("human", "H", "", "Print sizes and dates in human readable format (default true)"),
            _NO_TRUNC,
            ("quiet", "q", "", "Only show image IDs"),
        ),
        ("sandbox history busybox", "sandbox history --no-trunc --format '{{.CreatedBy}}' mine"),
    ),
    "save": (
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        1,
        UNBOUNDED,
        "image",
        (("output", "o", "string", "Write to a file, instead of STDOUT"),),
        (
            "sandbox save -o images.tar busybox mine:1",
            "sandbox save busybox | zstd >busybox.tar.zst",
        ),
    ),
    "tag": (
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        2,
        2,
        "image",
        (),
        ("sandbox tag busybox mine:1",),
    ),
    "network connect": (
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        2,
        2,
        "network container",
        (
            ("alias", "", "list", "Add network-scoped alias for the container"),
            ("ip", "", "string", 'IPv4 address (e.g., "172.30.100.104")'),
            ("ip6", "", "string", 'IPv6 address (e.g., "2001:db8::33")'),
            ("mac-address", "", "string", "MAC address there"),
        ),
        (
            "sandbox network connect backend web",
            "sandbox network connect --ip 10.98.0.7 --alias db backend postgres",
        ),
    ),
    "network create": (
        "[OPTIONS] NETWORK",
        "Create a network",
        1,
        1,
        "",
        (
            ("driver", "d", "string", "Driver to manage the Network (bridge)"),
            ("gateway", "", "list", "IPv4 or IPv6 Gateway for the master subnet"),
            ("internal", "", "", "Restrict external access to the network"),
            ("ip-range", "", "list", "Allocate container ip from a sub-range"),
            ("ipv6", "", "", "Enable IPv6 networking"),
            ("label", "", "list", "Set metadata on a network"),
            ("mtu", "", "int", "Largest packet of its links"),
            ("opt", "o", "map", "Set driver specific options (com.docker.network.driver.mtu)"),
            ("subnet", "", "list", "Subnet in CIDR format that represents a network segment"),
        ),
        (
            "sandbox network create backend",
            "sandbox network create --subnet 10.98.0.0/24 --gateway 10.98.0.1 backend",
            "sandbox network create --internal --ipv6 --label for=tests sealed",
        ),
    ),
    "network disconnect": (
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        2,
        2,
        "network container",
        (("force", "f", "", "Force the container to disconnect from a network"),),
        ("sandbox network disconnect backend web",),
    ),
    "network inspect": (
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        1,
        UNBOUNDED,
        "network",
        (("format", "f", "string", "Format output using a Go template, or 'json'"),),
        (
            "sandbox network inspect bridge",
            "sandbox network inspect -f '{{json .Containers}}' backend",
        ),
    ),
    "network ls": (
        "[OPTIONS]",
        "List networks",
        0,
        0,
        "",
        (
            (
                "filter",
                "f",
                "filter",
                "Provide filter values (dangling, driver, id, label, name, scope, type)",
            ),
            _FORMAT,
            ("no-trunc", "", "", "Do not truncate the output"),
            ("quiet", "q", "", "Only display network IDs"),
        ),
        ("sandbox network ls", "sandbox network ls -q -f type=custom"),
    ),
    "network prune": (
        "[OPTIONS]",
        "Remove all unused networks",
        0,
        0,
        "",
        (
            ("filter", "", "filter", "Provide filter values (label=NAME[=VALUE], until=TIME)"),
            ("force", "f", "", "Do not prompt for confirmation"),
        ),
        ("sandbox network prune", "sandbox network prune -f --filter until=24h"),
    ),
    "network rm": (
        "[OPTIONS] NETWORK [NETWORK...]",
        "Remove one or more networks",
        1,
        UNBOUNDED,
        "network",
        (("force", "f", "", "Do not error if the network does not exist"),),
        ("sandbox network rm backend",),
    ),
    "volume create": (
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        0,
        1,
        "",
        (
            ("driver", "d", "string", "Specify volume driver name (local)"),
            ("label", "", "list", "Set metadata for a volume"),
            ("opt", "o", "map", "Set driver specific options (type, o, device)"),
        ),
        (
            "sandbox volume create data",
            "sandbox volume create --opt type=none --opt o=bind --opt device=/srv/data data",
        ),
    ),
    "volume inspect": (
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        1,
        UNBOUNDED,
        "volume",
        (("format", "f", "string", "Format output using a Go template, or 'json'"),),
        (
            "sandbox volume inspect data",
            "sandbox volume inspect -f '{{.Mountpoint}}' data",
        ),
    ),
    "volume ls": (
        "[OPTIONS]",
        "List volumes",
        0,
        0,
        "",
        (
            ("filter", "f", "filter", "Provide filter values (dangling, driver, label, name)"),
            _FORMAT,
            ("quiet", "q", "", "Only display volume names"),
        ),
        ("sandbox volume ls", "sandbox volume ls -q -f dangling=true"),
    ),
    "volume prune": (
        "[OPTIONS]",
        "Remove unused local volumes",
        0,
        0,
        "",
        (
            ("all", "a", "", "Remove all unused volumes, not just anonymous ones"),
            ("filter", "", "filter", "Provide filter values (label=NAME[=VALUE])"),
            ("force", "f", "", "Do not prompt for confirmation"),
        ),
        ("sandbox volume prune", "sandbox volume prune -af"),
    ),
    "volume rm": (
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        1,
        UNBOUNDED,
        "volume",
        (("force", "f", "", "Force the removal of one or more volumes"),),
        ("sandbox volume rm data",),
    ),
    "doctor": (
        "[OPTIONS]",
        "Say what this host can do, and how to mend what it cannot",
        0,
        0,
        "",
        (("format", "", "string", "Format output: 'table' or 'json'"),),
        ("sandbox doctor", "sandbox doctor --format json"),
    ),
    "events": (
        "[OPTIONS]",
        "Get real time events from this engine",
        0,
        0,
        "",
        (
            ("filter", "f", "filter", "Filter output based on conditions provided"),
            ("format", "", "string", "Format the output using the given Go template, or 'json'"),
            ("since", "", "string", "Show all events created since timestamp"),
            ("until", "", "string", "Stream events until this timestamp"),
        ),
        (
            "sandbox events",
            "sandbox events --since 10m --until 0s --filter event=die",
            "sandbox events --filter container=web --format '{{json .}}'",
        ),
    ),
    "info": (
        "[OPTIONS]",
        "Display system-wide information",
        0,
        0,
        "",
        (("format", "f", "string", "Format output using a Go template, or 'json'"),),
        ("sandbox info", "sandbox info --format '{{.Driver}} {{.CgroupDriver}}'"),
    ),
    "version": (
        "[OPTIONS]",
        "Show the version information",
        0,
        0,
        "",
        (("format", "f", "string", "Format output using a Go template, or 'json'"),),
        ("sandbox version", "sandbox version --format '{{.Client.Version}}'"),
    ),
    "completion": (
        "bash|zsh|fish",
        "Print a completion script for a shell",
        1,
        1,
        "shell",
        (),
        ("source <(sandbox completion bash)", "sandbox completion fish | source"),
    ),
}

# The nouns: what `sandbox container ls` and its kin are short for.
NOUNS: dict[str, dict[str, str]] = {
    "container": {
        "attach": "attach",
        "commit": "commit",
        "cp": "cp",
        "create": "create",
        "diff": "diff",
        "exec": "exec",
        "export": "export",
        "inspect": "inspect",
        "kill": "kill",
        "list": "ps",
        "logs": "logs",
        "ls": "ps",
        "pause": "pause",
        "port": "port",
        "prune": "container prune",
        "ps": "ps",
        "rename": "rename",
        "restart": "restart",
        "rm": "rm",
        "run": "run",
        "start": "start",
        "stats": "stats",
        "stop": "stop",
        "top": "top",
        "unpause": "unpause",
        "update": "update",
        "wait": "wait",
    },
    "image": {
        "fsck": "image fsck",
        "history": "history",
        "import": "import",
        "inspect": "inspect",
        "list": "images",
        "load": "load",
        "ls": "images",
        "prune": "image prune",
        "pull": "pull",
        "push": "push",
        "rm": "rmi",
        "save": "save",
        "tag": "tag",
    },
    "network": {
        "connect": "network connect",
        "create": "network create",
        "disconnect": "network disconnect",
        "inspect": "network inspect",
        "list": "network ls",
        "ls": "network ls",
        "prune": "network prune",
        "remove": "network rm",
        "rm": "network rm",
    },
    "system": {
        "df": "system df",
        "events": "events",
        "info": "info",
        "prune": "system prune",
    },
    "volume": {
        "create": "volume create",
        "inspect": "volume inspect",
        "list": "volume ls",
        "ls": "volume ls",
        "prune": "volume prune",
        "remove": "volume rm",
        "rm": "volume rm",
    },
}

SUMMARIES = {
    "container": "Manage containers",
    "image": "Manage images",
    "network": "Manage networks",
    "system": "Manage this engine",
    "volume": "Manage volumes",
}


class Command(Record):
    """One entry of the table; ``path`` is how it was called: ``sandbox container ls``."""

    verb: str
    path: str
    positionals: str
    summary: str
    fewest: int
    most: int
    arguments: str
    flags: tuple[Flag, ...]
    examples: tuple[str, ...]

    @property
    def usage(self) -> str:
        """The usage line, without ``Usage:``."""
        return f"{self.path} {self.positionals}"

    @property
    def options_first(self) -> bool:
        """The first positional ends the options: what follows is a command of its own."""
        return self.arguments.endswith(" command")


def command(verb: str, noun: str = "", word: str = "") -> Command:
    """The table's entry; ``noun`` and ``word`` are what was said instead of the verb."""
    positionals, summary, fewest, most, arguments, flags, examples = COMMANDS[verb]
    return Command(
        verb=verb,
        path=f"{PROGRAM} {noun} {word}" if noun else f"{PROGRAM} {verb}",
        positionals=positionals,
        summary=summary,
        fewest=fewest,
        most=most,
        arguments=arguments,
        flags=flags,
        examples=examples,
    )


def shown(flag: Flag) -> str:
    """The flag as errors name it: ``-m, --memory``."""
    return f"-{flag[1]}, --{flag[0]}" if flag[1] else f"--{flag[0]}"
