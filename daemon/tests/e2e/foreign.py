"""A client that is not ours: reads an access log by its own rules and adds it with redis-py.

Arguments: path of the server's socket, path of the log (gzip).
"""

import gzip
import re
import sys
from datetime import datetime

import redis

LINE = re.compile(
    rb'(\S+) (\S+) (\S+) \[([^\]]+)\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"'
)

client = redis.Redis(unix_socket_path=sys.argv[1])
pipe = client.pipeline(transaction=False)
with gzip.open(sys.argv[2]) as log:
    for number, line in enumerate(log, start=1):
        line = line.rstrip(b"\n")
        event = {"event_id": f"line-{number}"}
        found = LINE.fullmatch(line)
        if found:
            host, _, _, time, request, status, size, _, agent = found.groups()
            when = datetime.strptime(time.decode(), "%d/%b/%Y:%H:%M:%S %z")
            event |= {
                "user_id": host,
                "event_type": status,
                "product": request.split()[1].split(b"?")[0] if b" " in request else request,
                "value": b"0" if size == b"-" else size,
                "ts": int(when.timestamp() * 1000),
                "agent": agent,
            }
        else:
            event["raw"] = line
        pipe.xadd("events", event)
        if number % 500 == 0:
            pipe.execute()
    pipe.execute()
print(number)
