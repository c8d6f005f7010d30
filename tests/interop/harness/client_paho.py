"""paho-mqtt over WebSocket. Orders and events as in client-remote.js: one JSON object a line."""

import base64
import json
import ssl
import sys
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

writing = threading.Lock()
# Packet identifier -> the order that waits for its SUBACK. The lock also covers the time between
# sending and writing it down here.
subscribing = {}
bookkeeping = threading.Lock()


def tell(**event):
    with writing:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def connect(order):
    url = urlsplit(order["url"])
    five = order["version"] == 5
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=order["clientId"],
        clean_session=None if five else order["clean"],
        protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
        transport="websockets",
        reconnect_on_failure=False,
    )
    client.ws_set_options(path=url.path)
    if url.scheme == "wss":
        client.tls_set(ca_certs=order["ca"], cert_reqs=ssl.CERT_REQUIRED)
    will = order.get("will")
    if will:
        client.will_set(will["topic"], base64.b64decode(will["payload"]), will.get("qos", 0), will.get("retain", False))

    def on_connect(_client, _data, _flags, reason, _properties):
        if reason.is_failure:
            tell(id=order["id"], error=str(reason))
        else:
            tell(id=order["id"])

    def on_message(_client, _data, message):
        tell(
            event="message",
            topic=message.topic,
            payload=base64.b64encode(message.payload).decode(),
            qos=message.qos,
            retain=message.retain,
        )

    def on_subscribe(_client, _data, packet, reasons, _properties):
        with bookkeeping:
            waiting = subscribing.pop(packet)
        tell(id=waiting, granted=reasons[0].value)

    client.on_connect = on_connect
    client.on_message = on_message
    client.on_subscribe = on_subscribe
    client.on_disconnect = lambda _client, _data, _flags, reason, _properties: tell(event="closed", reason=str(reason))
    five_only = {}
    if five:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = order.get("properties", {}).get("sessionExpiryInterval", 0)
        five_only = {"clean_start": order["clean"], "properties": properties}
    client.connect(url.hostname, url.port, keepalive=order["keepalive"], **five_only)
    client.loop_start()
    return client


def obey(client, order):
    if order["order"] == "subscribe":
        with bookkeeping:
            _, packet = client.subscribe(order["topic"], order["qos"])
            subscribing[packet] = order["id"]
    elif order["order"] == "publish":
        sent = client.publish(order["topic"], base64.b64decode(order["payload"]), order["qos"], order["retain"])
        sent.wait_for_publish(20)
        tell(id=order["id"])
    elif order["order"] == "end":
        client.disconnect()
        tell(id=order["id"])


def main():
    client = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["order"] == "connect":
                client = connect(order)
            else:
                obey(client, order)
        except Exception as error:  # told to whoever gave the order
            tell(id=order["id"], error=repr(error))


main()
